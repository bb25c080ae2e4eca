"""Patches of other packs on the same blocks, and models that are refused."""

import logging

import comfy.ldm.flux.model
import comfy.ops
import pytest
import torch
from comfy_extras.nodes_slg import SkipLayerGuidanceDiT
from pulid_pack.pulid_core.errors import UnsupportedModelError
from pulid_pack.tests.inside_comfyui.world import (
    LOST,
    WIDTH,
    apply,
    first_block_output,
    sample,
)

# Other packs' patches


class Doubling:
    """Another pack's patch: chains what was there and doubles the change the block makes."""

    def __init__(self, previous=None):
        self.previous = previous
        self.calls = []

    def __call__(self, args, extra):
        self.calls.append("call")
        before = args["img"].clone()
        run = extra["original_block"]
        out = self.previous(args, extra) if self.previous else run(args)
        return {**out, "img": before + 2 * (out["img"] - before)}

    def models(self):
        self.calls.append("models")
        return []

    def to(self, where):
        self.calls.append("to")
        return self

    def cleanup(self):
        self.calls.append("cleanup")


def test_patch_set_before_ours_is_chained(model, pulid):
    other = model.clone()
    doubling = Doubling()
    other.set_model_patch_replace(doubling, "dit", "double_block", 0)
    bare = first_block_output(other)
    both = first_block_output(apply(other, pulid))
    assert not torch.equal(both, bare)
    assert {"call", "models", "to"} <= set(doubling.calls)
    patch = apply(other, pulid).model_options["transformer_options"]["patches_replace"]["dit"]
    patch["double_block", 0].cleanup()
    assert doubling.calls[-1] == "cleanup"


def test_patch_set_after_ours_that_chains(model, pulid, caplog):
    patched = apply(model, pulid)
    dit = patched.model_options["transformer_options"]["patches_replace"]["dit"]
    after = patched.clone()
    after.set_model_patch_replace(Doubling(dit["double_block", 0]), "dit", "double_block", 0)
    assert not torch.equal(sample(after), sample(patched))
    assert LOST not in caplog.text


def test_patch_set_after_ours_that_does_not_chain(model, pulid, caplog):
    """Said once per run, naming the block; PuLID still acts elsewhere."""
    after = apply(apply(model, pulid), pulid, 1).clone()
    after.set_model_patch_replace(Doubling(), "dit", "single_block", 4)
    with caplog.at_level(logging.WARNING):
        sample(after, cfg=2.0, steps=4)
    (record,) = [r for r in caplog.records if LOST in r.getMessage()]
    assert "never called in 1 of them (single_block 4)" in record.getMessage()


def test_our_node_on_both_sides_of_another_pack(model, pulid, caplog):
    """Ours, theirs, ours: both people act."""
    first = apply(model, pulid, 1)
    between = first.clone()
    dit = first.model_options["transformer_options"]["patches_replace"]["dit"]
    between.set_model_patch_replace(Doubling(dit["double_block", 0]), "dit", "double_block", 0)
    both = apply(between, pulid, 2)
    pictures = [sample(m) for m in (first, between, both)]
    assert not any(torch.equal(a, b) for a in pictures for b in pictures if a is not b)
    assert len(set(both.model_patches_models())) == 2
    assert LOST not in caplog.text


def test_skip_layer_guidance_is_no_lost_patch(model, pulid, caplog):
    """It replaces blocks in a pass of its own only."""
    node = SkipLayerGuidanceDiT.execute(apply(model, pulid), 3.0, 0.0, 1.0, "0", "0", 0.0)
    assert sample(node.result[0], cfg=2.0).isfinite().all()
    assert LOST not in caplog.text


def test_a_block_outside_of_a_forward_pass_is_an_error(model, pulid):
    patched = apply(model, pulid)
    dit = patched.model_options["transformer_options"]["patches_replace"]["dit"]
    block = {"img": torch.zeros(1, 4, WIDTH), "txt": torch.zeros(1, 4, WIDTH)}
    with pytest.raises(UnsupportedModelError, match="outside of ComfyUI"):
        dit["double_block", 0](block, {"original_block": lambda args: args})


def test_other_models_are_refused(world, model, pulid):
    with pytest.raises(UnsupportedModelError, match="256 wide, but the connected model is 128"):
        apply(model, world.load_pulid(width=256))
    deep = world.load_flux(doubles=5, singles=5)
    with pytest.raises(UnsupportedModelError, match="holds 4 cross attentions"):
        apply(deep, pulid)


def test_nunchaku_is_refused(model, pulid):
    class ComfyFluxWrapper(torch.nn.Module):
        pass

    wrapped = model.clone()
    wrapped.add_object_patch("diffusion_model", ComfyFluxWrapper())
    with pytest.raises(UnsupportedModelError, match="nunchaku's own PuLID nodes"):
        apply(wrapped, pulid)


def test_flux2_and_strangers_are_refused(model, pulid):
    flux2 = model.clone()
    diffusion_model = comfy.ldm.flux.model.Flux(
        **{**model.model.model_config.unet_config, "vec_in_dim": None, "global_modulation": True},
        operations=comfy.ops.manual_cast,
    )
    flux2.add_object_patch("diffusion_model", diffusion_model)
    with pytest.raises(UnsupportedModelError, match="got FLUX"):
        apply(flux2, pulid)
    stranger = model.clone()
    stranger.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    with pytest.raises(UnsupportedModelError, match="Linear"):
        apply(stranger, pulid)
