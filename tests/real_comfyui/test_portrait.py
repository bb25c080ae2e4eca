"""From photo to picture over a real server, in every supported ComfyUI."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import comfyui_source, portrait_workflow
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.tests.conftest import comfyui_folder
from pulid_pack.tests.real_comfyui.portrait_graph import portrait
from pulid_pack.tests.real_comfyui.test_workflows import shrunk
from pulid_pack.tests.start_up import loaded_and_watched

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).resolve().parents[2]
ENCODED = "PuLID encoded an identity"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_pack_loads_without_a_warning(matrix_server):
    """Both nodes are there, and ComfyUI's log names no file of ours but with the import time."""
    for node in ("PulidLoader", "PulidApplyFlux"):
        assert matrix_server.object_info(node)[node]["category"] == "PuLID FLUX"
    log = matrix_server.log_text().splitlines()
    ours = [line for line in log if re.search(r"custom_nodes.pulid-for-flux", line)]
    assert len(ours) == 1
    assert re.search(r"[\d.]+ seconds: ", ours[0])


def test_workflow_runs_unchanged(matrix_server):
    """The portrait template as a user shares it: picture, face crop, a served second run.

    At its full size in the newest alone: what it asks the server for is the same in all.
    """
    workflow = portrait_workflow.read(portrait_workflow.PATH)
    prompt = to_prompt(workflow, matrix_server.object_info())
    if matrix_server.comfyui != comfyui_folder(comfyui_source.NEWEST):
        shrunk(prompt)
    run = matrix_server.run(prompt)
    assert run.error is None
    ids = {node["class_type"]: node_id for node_id, node in prompt.items()}
    (picture,) = run.images[ids["SaveImage"]]
    assert pixels(picture).std() > 1
    (crop,) = run.images[ids["PulidApplyFlux"]]
    assert pixels(crop).shape == (336, 672, 3)

    again = matrix_server.run(prompt)
    assert again.error is None
    assert again.executed_nodes == []
    assert set(again.cached_nodes) >= {ids["SaveImage"], ids["PulidApplyFlux"], ids["KSampler"]}


def test_changed_weight_encodes_nothing_again(matrix_server):
    """Detection, vision tower and IDFormer run once for a photo; the weight still acts."""
    first = matrix_server.run(portrait())
    assert first.error is None
    encoded = matrix_server.log_text().count(ENCODED)
    second = matrix_server.run(portrait(apply={"weight": 2.0}))
    assert second.error is None
    assert "apply" in second.executed_nodes
    assert matrix_server.log_text().count(ENCODED) == encoded
    assert not np.array_equal(pixels(first.images["save"][0]), pixels(second.images["save"][0]))
    assert len(second.images["apply"]) == 1


def test_weight_zero_and_an_empty_range_equal_no_node(matrix_server):
    """Pixel for pixel."""
    plain = matrix_server.run(portrait(sampler={"model": ["flux", 0]}))
    without = pixels(plain.images["save"][0])
    for change in ({"weight": 0.0}, {"start_at": 1.0, "end_at": 1.0}):
        run = matrix_server.run(portrait(apply=change))
        assert run.error is None
        assert np.array_equal(pixels(run.images["save"][0]), without)


def test_two_branches_of_one_loader_do_not_see_each_other(matrix_server):
    """Each branch gives the picture that it gives alone; so does the model without the node."""
    alone = {
        weight: pixels(matrix_server.run(portrait(apply={"weight": weight})).images["save"][0])
        for weight in (0.7, 3.0)
    }
    plain = matrix_server.run(portrait(sampler={"model": ["flux", 0]}))
    branches = {}
    for name, model in (("b", ["apply_b", 0]), ("c", ["flux", 0])):
        branches |= {
            f"sampler_{name}": {
                "class_type": "KSampler",
                "inputs": portrait()["sampler"]["inputs"] | {"model": model},
            },
            f"decode_{name}": {
                "class_type": "VAEDecode",
                "inputs": {"samples": [f"sampler_{name}", 0], "vae": ["vae", 0]},
            },
            f"save_{name}": {
                "class_type": "SaveImage",
                "inputs": {"images": [f"decode_{name}", 0], "filename_prefix": "branch"},
            },
        }
    branches["apply_b"] = {
        "class_type": "PulidApplyFlux",
        "inputs": portrait()["apply"]["inputs"] | {"weight": 3.0},
    }
    run = matrix_server.run(portrait(branches, apply={"weight": 0.7}))
    assert run.error is None
    assert np.array_equal(pixels(run.images["save"][0]), alone[0.7])
    assert np.array_equal(pixels(run.images["save_b"][0]), alone[3.0])
    assert np.array_equal(pixels(run.images["save_c"][0]), pixels(plain.images["save"][0]))
    assert not np.array_equal(alone[0.7], alone[3.0])


def test_cancel_stops_the_encoder(matrix_server):
    """Cancelled at the first step of encoding: not a second of work follows, and nothing leaks."""
    odd_photo = portrait(apply={"weight": 1.23}, loader={"provider": "CPUExecutionProvider"})
    steps_after_cancel = []

    def cancel(kind, data):
        if kind == "progress" and data["node"] == "apply":
            if not steps_after_cancel:
                matrix_server.interrupt()
            steps_after_cancel.append(data["value"])

    run = matrix_server.run(odd_photo, on_event=cancel)
    assert run.error.message == "interrupted"
    assert len(steps_after_cancel) <= 4
    assert "sampler" not in run.executed_nodes
    assert matrix_server.run(odd_photo).error is None


LEFT_FOR_A_RUN = (
    *("insightface", "onnxruntime", "timm", "cv2", "sqlite3"),
    *("pulid_core.encoder.encode", "pulid_core.encoder.idformer", "pulid_core.pulid_file"),
    *("pulid_core.injection.folding", "pulid_core.old_workflows", "pulid_core.paid_jobs"),
    *("pulid_core.wavespeed.client", "nodes.block_patch", "nodes.pulid_models"),
    *("nodes.wavespeed_background", "pulid_core.identity.file"),
    *("pulid_core.face.gate", "pulid_core.sheet.contact_sheet", "pulid_core.sheet.strength"),
    *("pulid_core.sheet.curve", "PIL.ImageCms"),
)
"""What no node needs to be listed."""
MODULES_AT_START = 67
"""At most, with what ours bring along; each costs ComfyUI's start about a millisecond."""


def test_start_up_imports_nothing_heavy(matrix_comfyui_dir):
    """Loaded as ComfyUI loads it, and asked for every schema."""
    done = loaded_and_watched(matrix_comfyui_dir)
    assert done.returncode == 0, done.stderr
    imported = [name.removeprefix("a/path/as/name.") for name in done.stdout.split()]
    assert [n for n in imported if n.startswith(LEFT_FOR_A_RUN)] == []
    assert len(imported) <= MODULES_AT_START
