"""Values through links, which ComfyUI does not check: refused by every node, before anything else."""

import asyncio
import inspect
import math

import pytest
import torch
from comfy_api.latest import io
from pulid_pack.nodes import PulidExtension, wavespeed_background
from pulid_pack.nodes.contact_sheet import PulidContactSheet
from pulid_pack.nodes.identity import PulidEncodeIdentity
from pulid_pack.nodes.model_files import register_folders
from pulid_pack.nodes.values import CHECKED, require_values
from pulid_pack.nodes.wavespeed_remote import WavespeedFluxPulidRemote
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.tests.inside_comfyui.world import execute

register_folders()  # ComfyUI has us do so before it asks for a schema
SCHEMAS = {node: node.define_schema() for node in asyncio.run(PulidExtension().get_node_list())}
NUMBERS = (io.Float.Input, io.Int.Input)


def usual(field):
    if isinstance(field, io.Combo.Input) and field.default is None:
        return field.options[0] if field.options else "a name"
    if isinstance(field, io.String.Input):
        return field.default or ""
    return getattr(field, "default", None)


def wrong_values(field):
    if not field.optional:
        yield None
    if not isinstance(field, NUMBERS):
        yield from (math.nan, 7, ["a text"])
        return
    yield from (math.nan, math.inf, -math.inf, 1e30, 10**400, "a text", True)
    if field.min is not None:
        yield from (field.min - 1, field.max + 1)
    if isinstance(field, io.Int.Input):
        yield field.max - 0.5


CASES = [
    pytest.param(node, field.id, wrong, id=f"{schema.node_id}-{field.id}-{str(wrong)[:9]}")
    for node, schema in SCHEMAS.items()
    for field in schema.inputs
    if isinstance(field, CHECKED)
    for wrong in wrong_values(field)
]


def run(node, inputs):
    schema = SCHEMAS[node]
    inputs = {field.id: usual(field) for field in schema.inputs} | inputs
    if schema.is_input_list:
        inputs = {name: [value] for name, value in inputs.items()}
    result = execute(node, **inputs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize(("node", "name", "wrong"), CASES)
def test_wrong_values_are_refused_by_every_node(node, name, wrong, monkeypatch):
    """Also by one that has no model, photo or key yet: before anything is read or sent."""
    monkeypatch.setattr(wavespeed_background, "open_client", lambda: pytest.fail("opened"))
    refusal = f"^The input {name} of {SCHEMAS[node].node_id} should be .*, but a link gave ."
    with pytest.raises(PulidError, match=refusal):
        run(node, {name: wrong})


@pytest.mark.parametrize("node", [node for node, s in SCHEMAS.items() if not s.is_input_list])
def test_usual_values_and_optional_ones_that_nobody_gave(node):
    for is_given in (True, False):
        values = {
            field.id: usual(field) if is_given or not field.optional else None
            for field in SCHEMAS[node].inputs
        }
        require_values(node, names=values, **values)


def test_lists_of_values():
    good = {"columns": [0], "cell_px": [384]}
    require_values(PulidContactSheet, **good, captions=["a", "b"], scores=[0.5, 1])
    require_values(PulidContactSheet, **good, captions=[None], scores=None)
    for wrong in ({"columns": []}, {"scores": [0.5, math.nan]}, {"captions": ["a", 1]}):
        with pytest.raises(PulidError, match=f"The input {next(iter(wrong))} of"):
            require_values(PulidContactSheet, **wrong)


def test_optional_inputs_that_nobody_gave_are_not_sent(monkeypatch):
    """A muted node in front of them gives None."""
    asked = []

    class Client:
        def run(self, request, **_):
            asked.append(request)
            raise PulidError("enough")

    monkeypatch.setattr(wavespeed_background, "open_client", Client)
    schema = SCHEMAS[WavespeedFluxPulidRemote]
    nothing = {field.id: None for field in schema.inputs if field.optional}
    with pytest.raises(PulidError, match="enough"):
        run(WavespeedFluxPulidRemote, {**nothing, "image": torch.rand(2, 8, 8, 3), "prompt": "a"})
    (request,) = asked
    assert len(request.photos) == 2
    assert (request.num_images, request.max_wait_s, request.on_partial_failure) == (1, 600, "raise")
    request.check()


@pytest.mark.parametrize("weights", ["a lot", "1, nan", "inf; 1"])
def test_photo_weights(weights):
    with pytest.raises(PulidError, match="photo_weights should be numbers separated by commas"):
        run(PulidEncodeIdentity, {"photo_weights": weights})
