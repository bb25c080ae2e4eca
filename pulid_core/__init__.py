"""PuLID for FLUX without ComfyUI: photo -> faces -> parsing and vision -> encoder -> identity -> attention."""
