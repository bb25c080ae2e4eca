"""The remote nodes in every ComfyUI of the matrix: their inputs, and the shared workflow."""

import pytest
from PIL import Image
from pulid_pack.devtools import portrait_workflow
from pulid_pack.devtools.comfyui import inputs_of
from pulid_pack.devtools.workflow_conversion import to_prompt

pytestmark = pytest.mark.comfy

INPUTS = [
    *("image", "prompt", "size", "guidance_scale", "seed", "output_format", "width", "height"),
    *("num_images", "batch_mode", "prompt_per_line", "max_cost_usd", "max_wait_s"),
    *("max_parallel", "on_partial_failure", "force_rerun", "enable_base64_output"),
    *("enable_sync_mode", "prediction_id", "cancel_at_service"),
]


def test_schema(matrix_server):
    """No key widget, no account of ComfyUI's own, a tooltip everywhere, inputs in order."""
    info = matrix_server.object_info("WavespeedFluxPulidRemote")["WavespeedFluxPulidRemote"]
    given = inputs_of(info)
    assert sorted(given) == sorted(INPUTS)
    order = [*info["input_order"]["required"], *info["input_order"]["optional"]]
    assert order == sorted(INPUTS, key=lambda name: name not in info["input"]["required"])
    assert not [name for name in given if "key" in name or "url" in name]
    assert [name for name, (_, options) in given.items() if not options.get("tooltip")] == []
    assert given["seed"][1]["control_after_generate"]
    assert not info.get("api_node")
    assert set(info["input"].get("hidden") or ()) <= {"prompt", "unique_id"}
    assert all(info["output_tooltips"])
    assert "7 days" in info["description"]
    account = matrix_server.object_info("WavespeedAccount")["WavespeedAccount"]
    assert account["output_node"]
    assert not account["input"].get("required")


def test_shared_workflow_unchanged(matrix_server, wavespeed):
    """A picture; the second run comes from ComfyUI's cache, the third from this machine's disk."""
    workflow = portrait_workflow.load(path=portrait_workflow.REMOTE_PATH)
    prompt = to_prompt(workflow, matrix_server.object_info())
    (node,) = (node for node in prompt.values() if node["class_type"] == "WavespeedFluxPulidRemote")
    assert node["inputs"]["max_cost_usd"] == 0.5
    assert node["inputs"]["prediction_id"] == ""
    paid = wavespeed.paid
    run = matrix_server.run(prompt)
    assert run.error is None
    ((picture,),) = run.images.values()
    with Image.open(picture) as opened:
        assert opened.size == (1024, 1024)
    assert wavespeed.paid == paid + 1

    again = matrix_server.run(prompt)
    assert again.error is None
    assert again.executed_nodes == []
    matrix_server.free()
    anew = matrix_server.run(prompt)
    assert anew.error is None
    assert wavespeed.paid == wavespeed.images_delivered == paid + 1
