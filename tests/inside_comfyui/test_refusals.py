"""Never a silently plain model: what is refused, and what is said."""

import logging
import math

import comfy.ldm.chroma_radiance.model
import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from pulid_pack.pulid_core.errors import PulidError, UnsupportedModelError
from pulid_pack.tests.inside_comfyui.world import (
    apply,
    identity,
    latent,
    sample,
)
from torch._dynamo.eval_frame import DisableContext, OptimizedModule

MISSED = "no step of this sampling does"


@pytest.mark.parametrize("value", [1, 0.5, torch.tensor(0.5).item()])
def test_good_values_through_links(model, pulid, value):
    assert sample(apply(model, pulid, weight=value, end_at=value), steps=1).isfinite().all()


def test_what_is_no_options_socket(model, pulid):
    with pytest.raises(PulidError, match="needs the output of PulidInjectionOptions as options"):
        apply(model, pulid, options={"schedule": "constant"})


@pytest.mark.parametrize("value", [1e38, math.nan])
def test_an_identity_that_no_model_can_take(model, pulid, value):
    """Finite, so that loading it says nothing; the fold overflows."""
    who = identity(0)
    who.tokens[0, 3] = value
    with pytest.raises(PulidError, match="needs an identity of finite numbers"):
        apply(model, pulid, who)


# A range that no step meets


@pytest.mark.parametrize(
    ("denoise", "limits", "is_missed"),
    [
        (0.3, {"end_at": 0.5}, True),
        (0.3, {"start_at": 0.1, "end_at": 0.4}, True),
        (0.3, {"end_at": 1.0}, False),
        (0.3, {"start_at": 0.5}, False),
        (1.0, {"end_at": 0.0}, False),
        (1.0, {"start_at": 1.0}, True),
    ],
    ids=str,
)
def test_a_sampling_without_a_step_in_the_range_says_so_once(
    model, pulid, denoise, limits, is_missed, caplog
):
    patched = apply(apply(model, pulid, **limits), pulid, 1, weight=0.5, **limits)
    with caplog.at_level(logging.WARNING):
        picture = sample(patched, cfg=2.0, steps=6, start=latent(), denoise=denoise)
    said = [record.getMessage() for record in caplog.records if MISSED in record.getMessage()]
    plain = torch.equal(picture, sample(model, cfg=2.0, steps=6, start=latent(), denoise=denoise))
    assert (len(said), plain) == (int(is_missed), is_missed)


def test_the_range_that_ran_is_named(model, pulid, caplog):
    sample(apply(model, pulid, end_at=0.4), steps=10, start=latent(), denoise=0.5)
    (said,) = [r.getMessage() for r in caplog.records if MISSED in r.getMessage()]
    assert "(0 to 0.4)" in said
    assert "lie between 0.5" in said


# Models


def test_a_compiled_model_is_seen_through(model, pulid):
    """Nodes put torch.compile's wrapper around the whole model, in front of ours or behind it."""

    def wrap(patched):
        patched = patched.clone()
        flux = patched.get_model_object("diffusion_model")
        patched.add_object_patch("diffusion_model", OptimizedModule(flux, DisableContext()))
        return patched

    expected = sample(apply(model, pulid), steps=2)
    assert torch.equal(sample(apply(wrap(model), pulid), steps=2), expected)
    assert torch.equal(sample(wrap(apply(model, pulid)), steps=2), expected)


def test_a_subclass_of_flux_is_refused(model, pulid):
    class OtherFlux(comfy.ldm.flux.model.Flux):
        pass

    other = model.clone()
    flux = OtherFlux(**model.model.model_config.unet_config, operations=comfy.ops.manual_cast)
    other.add_object_patch("diffusion_model", flux)
    with pytest.raises(UnsupportedModelError, match="OtherFlux"):
        apply(other, pulid)
