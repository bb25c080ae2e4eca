"""One switch between local and hosted, on a computer that has no model file at all."""

import copy

import numpy as np
import pytest
from PIL import Image
from pulid_pack.devtools import comfyui_source, portrait_workflow
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.tests.conftest import started

pytestmark = pytest.mark.comfy
TEMPLATE = portrait_workflow.FOLDER / "16 On your GPU or hosted by one switch.json"


@pytest.fixture(scope="module", params=["0.16.3", comfyui_source.NEWEST])
def laptop(request, tmp_path_factory, demo_photo, wavespeed):
    """A ComfyUI with the pack and a key, and empty model folders."""
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "models").mkdir()
    with started(request.param, folder, folder / "models", demo_photo, wavespeed) as server:
        yield server


@pytest.fixture
def prompt(laptop):
    return to_prompt(portrait_workflow.read(TEMPLATE), laptop.object_info())


def switch(prompt: dict, **changes) -> dict:
    prompt = copy.deepcopy(prompt)
    (node,) = (n for n in prompt.values() if n["class_type"] == "PulidLocalOrHosted")
    node["inputs"] |= changes
    return prompt


def test_hosted_runs_without_any_model_file(laptop, prompt, wavespeed):
    paid = wavespeed.paid
    run = laptop.run(switch(prompt, run_on="hosted"))
    assert (run.error, run.node_errors) == (None, {})
    assert wavespeed.paid == paid + 1
    ((picture,),) = run.images.values()
    assert np.asarray(Image.open(picture)).std() > 1
    ran = {prompt[node]["class_type"] for node in run.executed_nodes}
    expected = {"LoadImage", "PrimitiveStringMultiline", "WavespeedFluxPulidRemote"}
    assert ran == expected | {"PulidLocalOrHosted", "SaveImage"}


def test_local_names_the_missing_files_and_pays_nothing(laptop, prompt, wavespeed):
    paid = wavespeed.paid
    run = laptop.run(switch(prompt, run_on="local"))
    assert run.error is not None
    kinds = {error["class_type"] for error in run.node_errors.values()}
    assert kinds == {"UNETLoader", "DualCLIPLoader", "VAELoader", "PulidLoader"}
    assert wavespeed.paid == paid


def test_a_branch_that_is_muted_is_named_and_not_replaced_by_the_other(laptop, prompt, wavespeed):
    paid = wavespeed.paid
    muted = switch(prompt, run_on="local")
    (node,) = (n for n in muted.values() if n["class_type"] == "PulidLocalOrHosted")
    del node["inputs"]["local"]
    error = laptop.run(muted).error
    assert error is not None
    assert (
        "run_on of PulidLocalOrHosted is local, but no picture is connected there" in error.message
    )
    assert wavespeed.paid == paid
