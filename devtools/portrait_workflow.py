"""The shared workflows, with what a test or the demo may change in them."""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
PATH = FOLDER / "01 Portrait from one photo.json"
REMOTE_PATH = FOLDER / "02 Portrait without a GPU.json"
TUNING_PATH = FOLDER / "10 Which weight and start look best.json"
PROMPT_NODES = {PATH: "CLIPTextEncode", REMOTE_PATH: "WavespeedFluxPulidRemote"}


def read(path: Path) -> dict:
    """Read a workflow as it is."""
    return json.loads(path.read_text(encoding="utf-8"))


def load(photo: str | None = None, prompt: str | None = None, path: Path = PATH) -> dict:
    """Read a workflow, with another photo from the input folder or another prompt."""
    workflow = read(path)
    for kind, value in (("LoadImage", photo), (PROMPT_NODES[path], prompt)):
        if value is not None:
            only_node(workflow, kind)["widgets_values"][0] = value
    return workflow


def only_node(workflow: dict, kind: str) -> dict:
    """The one node of a type."""
    (node,) = (node for node in workflow["nodes"] if node["type"] == kind)
    return node
