"""The portrait graph in API format, small and quick, for tests that change one thing in it."""

from copy import deepcopy
from typing import Any

Prompt = dict[str, dict[str, Any]]

NODES: Prompt = {
    "flux": {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
    },
    "clip": {
        "class_type": "DualCLIPLoader",
        "inputs": {
            "clip_name1": "t5xxl_fp16.safetensors",
            "clip_name2": "clip_l.safetensors",
            "type": "flux",
        },
    },
    "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
    "photo": {"class_type": "LoadImage", "inputs": {"image": "portrait.png"}},
    "loader": {
        "class_type": "PulidLoader",
        "inputs": {
            "pulid_file": "auto",
            "eva_clip_file": "auto",
            "face_parsing_file": "auto",
            "face_model": "antelopev2",
            "provider": "auto",
        },
    },
    "apply": {
        "class_type": "PulidApplyFlux",
        "inputs": {
            "model": ["flux", 0],
            "pulid": ["loader", 0],
            "reference": ["photo", 0],
            "weight": 1.0,
            "start_at": 0.0,
            "end_at": 1.0,
        },
    },
    "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": "a"}},
    "latent": {
        "class_type": "EmptySD3LatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
    "sampler": {
        "class_type": "KSampler",
        "inputs": {
            "model": ["apply", 0],
            "positive": ["positive", 0],
            "negative": ["positive", 0],
            "latent_image": ["latent", 0],
            "seed": 1,
            "steps": 2,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        },
    },
    "decode": {
        "class_type": "VAEDecode",
        "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]},
    },
    "save": {
        "class_type": "SaveImage",
        "inputs": {"images": ["decode", 0], "filename_prefix": "portrait"},
    },
}


def portrait(extra_nodes: Prompt | None = None, **changes: dict[str, Any]) -> Prompt:
    """Copy the graph with some inputs changed: portrait(apply={"weight": 2.0})."""
    prompt = deepcopy(NODES) | deepcopy(extra_nodes or {})
    for node, inputs in changes.items():
        prompt[node]["inputs"] |= inputs
    return prompt
