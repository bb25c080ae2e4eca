"""PuLID for FLUX without ComfyUI: photo -> faces -> parsing and vision -> encoder -> identity -> attention."""

__version__ = "0.1.0"
