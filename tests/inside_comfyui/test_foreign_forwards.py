"""Beside nodes that swap FLUX's forward: step caches above all."""

import pytest
import torch
from pulid_pack.nodes.block_patch import _RUNNING
from pulid_pack.tests.inside_comfyui.foreign import CACHES, FORWARDS
from pulid_pack.tests.inside_comfyui.test_composition import LOST
from pulid_pack.tests.inside_comfyui.world import (
    apply,
    latent,
    prompt,
    sample,
)

LEFT = (torch.arange(8) < 4).float().expand(1, 8, 8)
KONTEXT = prompt(reference_latents=[latent(6, 4)])


def two_people(model, pulid):
    return apply(apply(model, pulid, 1, mask=LEFT), pulid, 2, 0.6, mask=1 - LEFT)


CASES = {
    "cfg": (apply, {"cfg": 3.0}),
    "batch": (apply, {"cfg": 3.0, "start": torch.zeros(2, 16, 8, 8)}),
    "odd size": (apply, {"start": torch.zeros(1, 16, 9, 13)}),
    "references": (apply, {"positive": KONTEXT}),
    "references with cfg": (apply, {"positive": KONTEXT, "negative": KONTEXT, "cfg": 3.0}),
    "mask": (lambda model, pulid: apply(model, pulid, mask=LEFT), {}),
    "two people": (two_people, {"cfg": 2.0}),
    "range": (lambda model, pulid: apply(model, pulid, start_at=0.4, end_at=0.8), {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("foreign", FORWARDS)
def test_a_foreign_forward_gives_the_same_picture(model, pulid, foreign, case):
    """Bit for bit, in either order of the nodes."""
    inject, sampling = CASES[case]
    expected = sample(inject(model, pulid), **sampling)
    assert not torch.equal(expected, sample(model, **sampling))
    assert torch.equal(sample(foreign(inject(model, pulid)), **sampling), expected)
    assert torch.equal(sample(inject(foreign(model), pulid), **sampling), expected)


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_that_is_hit_keeps_the_identity(model, pulid, cache, caplog):
    """At least 0.99 of what it changes without the cache, and nothing of it stays."""
    plain, ours = (sample(m, steps=8) for m in (model, apply(model, pulid)))
    share = (sample(cache(apply(model, pulid)), steps=8) - sample(cache(model), steps=8)).norm()
    assert share >= 0.99 * (ours - plain).norm()
    before, after = (
        sample(m, steps=8) for m in (apply(cache(model), pulid), cache(apply(model, pulid)))
    )
    assert torch.equal(before, after)
    assert torch.equal(sample(model, steps=8), plain)
    assert torch.equal(sample(apply(model, pulid), steps=8), ours)
    assert LOST not in caplog.text


def test_a_window_of_skipped_steps_is_reported(model, pulid, caplog):
    """A cache that skips every step between start_at and end_at loses the identity, and it is said."""
    cache = CACHES[0]
    patched = apply(model, pulid, start_at=0.3, end_at=0.9)
    sample(cache(patched, every=8), steps=8)
    assert LOST in caplog.text


class BreaksError(Exception):
    """Stands for Cancel."""


def test_nothing_outlives_a_forward_pass(model, pulid):
    """Neither a finished one nor one that breaks off within a block."""
    patched = apply(model, pulid)
    sample(patched)
    assert _RUNNING.get() is None

    def breaking(*_):
        assert _RUNNING.get() is not None
        raise BreaksError

    patched.set_model_patch_replace(breaking, "dit", "double_block", 1)
    with pytest.raises(BreaksError):
        sample(patched)
    assert _RUNNING.get() is None


def test_a_tensor_that_another_node_keeps_stays_as_it_is(model, pulid):
    """ComfyUI's own blocks give a tensor of their own; all others get a copy."""
    kept = []

    def keeping(args, extra):
        out = extra["original_block"](args)
        kept.append((out["img"], out["img"].clone()))
        return out

    other = model.clone()
    other.set_model_patch_replace(keeping, "dit", "double_block", 0)
    sample(apply(other, pulid), steps=1)
    assert kept
    assert all(torch.equal(now, before) for now, before in kept)
