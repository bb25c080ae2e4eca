"""Many portraits from a table, on any number of ComfyUI servers or at WaveSpeed.

table       people x prompts x seeds -> portraits, each with the file that it becomes
graph       the user's workflow in API format, filled in for one portrait
comfyui     one ComfyUI server as a painter
wavespeed   the hosted service as a painter
engine      hands portraits to painters through Dask, and takes painters out that are lost
command     `pulid.py portraits`
"""
