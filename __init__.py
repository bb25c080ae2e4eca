"""PuLID for FLUX: one person's likeness in any scene, locally or through WaveSpeedAI."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"
"""The nodes' help pages, and the script that shows a node's report on it."""

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
