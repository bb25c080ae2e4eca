"""The remote node's graph in API format, small and quick, and what is around it in its tests."""

import json
from typing import Any

from pulid_pack.devtools.comfyui import Run
from pulid_pack.tests.real_comfyui.portrait_graph import NODES, Prompt

PROMPT = "prompt-canary in the rain"


def remote(**inputs: Any) -> dict[str, Any]:
    """The remote node, small and quick."""
    defaults = {
        "image": ["photo", 0],
        "prompt": PROMPT,
        "size": "256*320",
        "guidance_scale": 3.5,
        "output_format": "png",
    }
    return {"class_type": "WavespeedFluxPulidRemote", "inputs": defaults | inputs}


def graph(extra_nodes: Prompt | None = None, **inputs: Any) -> Prompt:
    """Photo, remote node, saved picture and shown metadata."""
    return {
        "photo": NODES["photo"],
        "remote": remote(**inputs),
        "save": {
            "class_type": "SaveImage",
            "inputs": {"images": ["remote", 0], "filename_prefix": "remote"},
        },
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["remote", 1]}},
        **(extra_nodes or {}),
    }


ACCOUNT: Prompt = {"account": {"class_type": "WavespeedAccount", "inputs": {}}}
LOCAL: Prompt = {
    "photo": NODES["photo"],
    "preview": {"class_type": "PreviewImage", "inputs": {"images": ["photo", 0]}},
}


def sources(run: Run) -> list[str]:
    """Where the pictures of a run came from."""
    assert run.error is None, run.error
    (text,) = run.outputs["show"]["text"]
    return [image["source"] for image in json.loads(text)["images"]]


def own_photo(color: int) -> dict[str, Any]:
    """A photo that was not uploaded before."""
    inputs = {"width": 64, "height": 64, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}
