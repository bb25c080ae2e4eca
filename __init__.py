"""PuLID for FLUX: one person's likeness in any scene, locally or through WaveSpeedAI."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
