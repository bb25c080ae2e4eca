"""The stage and the servers work without the pack: ComfyUI's own nodes run on the tiny files."""

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import portrait_workflow
from pulid_pack.devtools.workflow_conversion import BYPASSED, MUTED, to_prompt


@pytest.fixture
def flux_prompt(matrix_server) -> dict:
    """The shared workflow without the pack's nodes, small and quick."""
    workflow = portrait_workflow.load()
    portrait_workflow.only_node(workflow, "PulidApplyFlux")["mode"] = BYPASSED
    for kind in ("PulidLoader", "LoadImage"):
        portrait_workflow.only_node(workflow, kind)["mode"] = MUTED
    prompt = to_prompt(workflow, matrix_server.object_info())
    for node in prompt.values():
        node["inputs"] |= {"width": 128, "height": 192} if "width" in node["inputs"] else {}
        node["inputs"] |= {"steps": 2} if "steps" in node["inputs"] else {}
    return prompt


def test_flux_paints_on_the_tiny_stage(matrix_server, flux_prompt):
    """Every version loads the tiny files and saves a picture; a second run comes from the cache."""
    run = matrix_server.run(flux_prompt)
    assert run.error is None
    assert set(run.executed_nodes) | set(run.cached_nodes) == set(flux_prompt)
    ((picture,),) = run.images.values()
    with Image.open(picture) as image:
        assert image.size == (128, 192)
        assert np.asarray(image).std() > 1

    again = matrix_server.run(flux_prompt)
    assert again.executed_nodes == []
    assert set(again.cached_nodes) == set(flux_prompt)
    assert again.images == run.images


def test_a_refused_prompt_says_which_node_and_why(server):
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    run = server.run(prompt)
    assert run.error.exception_type == "prompt_outputs_failed_validation"
    assert "nowhere.png" in str(run.node_errors["1"])


def test_a_failing_node_is_named(server):
    """A crop outside of the picture, found only when it runs; the next prompt runs."""
    prompt = {
        "1": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "2": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["1", 0]}},
        "3": {
            "class_type": "LatentFromBatch",
            "inputs": {"samples": ["4", 0], "batch_index": 0, "length": 1},
        },
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    run = server.run(prompt)
    assert run.error.node_type == "VAEDecode"
    assert run.error.node_id == "2"
    assert run.error.exception_type == "RuntimeError"
    assert server.object_info("VAEDecode")
