"""start_at, end_at and the weight schedule."""

import comfy.samplers
import numpy as np
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_model_advanced import ModelSamplingFlux
from hypothesis import given, settings
from hypothesis import strategies as st
from pulid_pack.nodes.forward_plan import KEY
from pulid_pack.nodes.injection_options import PulidInjectionOptions
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.tests.inside_comfyui.world import Acts, apply, guide, prompt, sample

RANGES = [(0.0, 1.0), (0.0, 0.0), (0.14, 1.0), (0.0, 0.5), (0.3, 0.7), (0.5, 0.5), (1.0, 1.0)]


def core_controlnet_acts(model, sigma, start, end):
    """comfy.controlnet.ControlBase.get_control: outside when above the start or below the end."""
    sampling = model.get_model_object("model_sampling")
    t = torch.tensor([sigma])
    is_outside = t[0] > sampling.percent_to_sigma(start) or t[0] < sampling.percent_to_sigma(end)
    return not is_outside


def shift(model):
    (shifted,) = ModelSamplingFlux().patch(model, 2.5, 0.5, 1536, 1536)
    return shifted


@pytest.mark.parametrize(("start", "end"), RANGES)
@pytest.mark.parametrize("order", ["plain", "before", "after"])
def test_acts_exactly_where_a_controlnet_would(model, pulid, start, end, order):
    """Whatever order ModelSamplingFlux and our node stand in."""
    patched = apply(shift(model) if order == "before" else model, pulid, 0, 1.0, start, end)
    acts = Acts(shift(patched) if order == "after" else patched)
    sample(acts.model, steps=8)
    sigmas = [sigma for sigma, _ in acts.seen]
    expected = [s for s in sigmas if core_controlnet_acts(acts.model, s, start, end)]
    assert len(sigmas) == 8
    assert acts.active_sigmas == expected


@pytest.mark.parametrize("percent", [0.1, 0.25, 0.37, 0.9])
def test_both_ends_are_included(model, pulid, percent):
    """A step exactly at start_at or end_at acts, though the sampler's sigmas are rounded."""
    sigma = model.get_model_object("model_sampling").percent_to_sigma(percent)
    for limits in (
        {"start_at": percent},
        {"end_at": percent},
        dict.fromkeys(("start_at", "end_at"), percent),
    ):
        acts = Acts(apply(model, pulid, **limits))
        guider = comfy.samplers.CFGGuider(acts.model)
        guider.set_conds(prompt(), prompt(2))
        guide(guider, sigmas=(sigma, 0.0))
        assert acts.active_sigmas == [float(np.float32(sigma))]


def test_custom_sigmas_above_one_belong_to_the_first_step(model, pulid):
    acts = Acts(apply(model, pulid))
    guider = comfy.samplers.CFGGuider(acts.model)
    guider.set_conds(prompt(), prompt(2))
    guide(guider, sigmas=(1.7, 1.2, 0.5, 0.0))
    assert acts.active_sigmas == pytest.approx([1.7, 1.2, 0.5])


def test_start_behind_end_is_refused(model, pulid):
    with pytest.raises(PulidError, match="before it"):
        apply(model, pulid, start_at=0.6, end_at=0.4)


def options(schedule="constant", points="0:1", double="1", single="1", negative="nobody"):
    return PulidInjectionOptions.execute(schedule, points, double, single, negative).result[0]


def weights_over_time(patched, steps=8):
    seen = []

    def watch(executor, *args, **kwargs):
        call = next(o for o in (*args, *kwargs.values()) if isinstance(o, dict) and KEY in o)
        shares = [share for parts in call[KEY].shares.values() for share in parts]
        seen.append(shares[0].weights[0] if shares else 0.0)
        return executor(*args, **kwargs)

    watched = patched.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", watch)
    sample(watched, steps=steps)
    return seen


def test_schedules(model, pulid):
    """ease-in rises, ease-out falls, points follow their line; constant is the weight itself."""
    rising = weights_over_time(apply(model, pulid, weight=2.0, options=options("ease-in")))
    falling = weights_over_time(apply(model, pulid, weight=2.0, options=options("ease-out")))
    assert rising == sorted(rising)
    assert rising[0] == 0
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 2
    assert [a + b for a, b in zip(rising, falling, strict=True)] == pytest.approx([2.0] * 8)
    assert weights_over_time(apply(model, pulid, weight=2.0, options=options())) == [2.0] * 8


def test_points_run_from_start_at_to_end_at(model, pulid):
    """At a shift of 0 the percent of the schedule is 1 - sigma, so the line can be read off."""
    (straight,) = ModelSamplingFlux().patch(model, 0.0, 0.0, 1024, 1024)
    patched = apply(
        straight, pulid, start_at=0.25, end_at=0.75, options=options("points", "0:0.5, 0.5:1, 1:0")
    )
    seen = weights_over_time(patched, steps=8)  # sigmas 1, 7/8, ... 1/8
    assert seen == pytest.approx([0, 0, 0.5, 0.75, 1, 0.5, 0, 0], abs=2e-3)


def test_default_options_change_nothing(model, pulid):
    assert torch.equal(sample(apply(model, pulid, options=options())), sample(apply(model, pulid)))


def test_block_weights(model, pulid):
    """Factors off everywhere equal no node; double and single act apart; lists go in order."""
    bare, full = sample(model), sample(apply(model, pulid))
    assert torch.equal(sample(apply(model, pulid, options=options(double="0", single="0"))), bare)
    double = sample(apply(model, pulid, options=options(single="0")))
    single = sample(apply(model, pulid, options=options(double="0")))
    assert not any(torch.equal(a, b) for a, b in [(double, single), (double, full), (single, full)])
    listed = apply(model, pulid, options=options(double="1, 0", single="0, 0"))
    first_only = apply(model, pulid, weight=2.0, options=options(double="0.5, 0", single="0"))
    assert torch.equal(sample(listed), sample(first_only))
    assert not torch.equal(sample(listed), double)


@pytest.mark.parametrize(
    "wrong", [{"double": "1, 2, 3"}, {"single": ""}, {"single": "nan"}, {"double": "a"}]
)
def test_wrong_block_weights_are_refused(model, pulid, wrong):
    with pytest.raises(PulidError, match="blocks needs one number"):
        apply(model, pulid, options=options(**wrong))


@pytest.mark.parametrize("points", ["", "0", "0:1:2", "0.5:1, 0.2:1", "0:inf", "2:1", "a:b"])
def test_wrong_points_are_refused(points):
    with pytest.raises(PulidError, match="progress:factor"):
        options("points", points)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 4), st.floats(0, 1))
def test_progress_inverts_the_schedule(a, b, mu, place):
    """Whatever the shift: the sigma at a place between two percents is found again."""
    from comfy.model_sampling import flux_time_shift
    from pulid_pack.pulid_core.injection.schedule import progress_at

    def percent_to_sigma(percent):
        if percent <= 0:
            return 1.0
        return 0.0 if percent >= 1 else flux_time_shift(mu, 1.0, 1.0 - percent)

    start, end = sorted((a, b))
    if end - start < 0.01:
        return
    percent = start + place * (end - start)
    found = progress_at(percent_to_sigma(percent), start, end, percent_to_sigma)
    # Where the shifted schedule is almost level, float32 sigmas tell percents apart less well.
    assert found == pytest.approx(place, abs=0.01)
