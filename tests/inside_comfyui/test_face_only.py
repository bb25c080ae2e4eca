"""Acting on the face alone, in ComfyUI's hands: stages, batches, cfg, masks, caches, parts, people."""

import itertools
from functools import partial

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from pulid_pack.nodes import forward_plan
from pulid_pack.nodes.forward_plan import TILED_FACE, UNKNOWN_TILE
from pulid_pack.nodes.injection_options import PulidInjectionOptions
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.injection.options import InjectionOptions
from pulid_pack.tests.injection import plain_spatial_id as plain
from pulid_pack.tests.inside_comfyui.foreign import CACHES, FORWARDS, QUARTERS, tiled
from pulid_pack.tests.inside_comfyui.test_forward import plain_forward
from pulid_pack.tests.inside_comfyui.test_many_people import counting
from pulid_pack.tests.inside_comfyui.world import (
    apply,
    execute,
    first_block_output,
    identity,
    largest_difference,
    latent,
    prompt,
    sample,
)

FACE = InjectionOptions(acts_on="face")
OWN_FACE = InjectionOptions(acts_on="own face")
LEFT = (torch.arange(8) < 4).float().expand(1, 8, 8)
STAGES = {"sigmas": torch.tensor([1.0, 0.5, 0.2, 0.0])}


def at(noise):
    """A sampling of one step, at a part of noise."""
    return {"sigmas": torch.tensor([noise, 0.0])}


def recorded(patched, **options):
    """Inputs and output of each forward pass of a sampling."""
    seen = []

    def record(executor, *args, **kwargs):
        out = executor(*args, **kwargs)
        seen.append((args[:5], out))
        return out

    watched = patched.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "record", record)
    sample(watched, **options)
    return seen


def weights_of(pulid):
    return [
        {k: v.float() for k, v in pulid.file.load_attention(i).state_dict().items()}
        for i in range(20)
    ]


@pytest.mark.parametrize("noise", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("size", [(8, 10), (7, 13)])
def test_equals_the_paper_s_form_in_a_plain_loop(real_depth, noise, size):
    """A batch of two through the whole FLUX, in each stage: 1e-5 of the value range."""
    flux, pulid = real_depth
    who = identity(7)
    patched = apply(flux, pulid, who, 0.8, options=FACE)
    start = torch.zeros(2, 16, *size)
    ((args, ours),) = recorded(patched, start=start, **at(noise))
    grid = tuple(-(-side // 2) for side in size)

    def attend(weights, tokens, image):
        return plain.contribution(weights, tokens, image, grid, noise)

    given = (flux.model.diffusion_model, weights_of(pulid), who.tokens, 0.8, *args)
    assert largest_difference(ours, plain_forward(*given, attend=attend)) < 1e-5
    assert largest_difference(ours, plain_forward(*given)) > 1e-3


@pytest.mark.parametrize("noise", [0.9, 0.5])
def test_people_who_divide_the_picture_in_a_plain_loop(real_depth, noise):
    flux, pulid = real_depth
    one, two = identity(7), identity(8)
    patched = apply(apply(flux, pulid, one, options=OWN_FACE), pulid, two, options=OWN_FACE)
    ((args, ours),) = recorded(patched, **at(noise))

    def attend(weights, _, image):
        return plain.shared_contributions(weights, [one.tokens, two.tokens], image, (4, 4), noise)

    given = (flux.model.diffusion_model, weights_of(pulid), None, 1.0, *args)
    # The tenfold responses of the softmax carry ten times their rounding.
    assert largest_difference(ours, plain_forward(*given, attend=attend)) < 3e-5


def options(**values):
    given = {
        "schedule": "constant", "schedule_points": "0:1", "double_blocks": "1", "single_blocks": "1",
        "negative_sees": "nobody", **values,
    }  # fmt: skip
    return execute(PulidInjectionOptions, **given).result[0]


def test_it_is_off_by_default_and_in_older_graphs(model, pulid):
    """Bit for bit as without the node; a floor alone does nothing, a floor of 1 everything."""
    usual = sample(apply(model, pulid))
    for given in (
        {},
        {"acts_on": None, "floor": None},
        {"acts_on": "whole picture", "floor": 0.7},
    ):
        assert torch.equal(sample(apply(model, pulid, options=options(**given))), usual)
    everywhere = sample(apply(model, pulid, options=options(acts_on="face", floor=1.0)))
    assert largest_difference(everywhere, usual) < 1e-5
    with pytest.raises(PulidError, match="should be one of whole picture, face, own face"):
        options(acts_on="nose")
    with pytest.raises(PulidError, match="should be a number from 0 to 1"):
        options(acts_on="face", floor=float("nan"))


def test_off_measures_nothing(model, pulid, monkeypatch):
    calls = counting(monkeypatch, forward_plan, "stage_at")
    grids = counting(monkeypatch, forward_plan.Grid, "of")
    sample(apply(model, pulid), cfg=2.0)
    assert not calls
    assert not grids
    sigmas = counting(monkeypatch, forward_plan.Conditions, "sigma")
    sample(apply(model, pulid, options=FACE), cfg=2.0, steps=8)
    assert len({id(conditions) for conditions, _ in sigmas}) == 8  # read once a step
    assert len(grids) == 1


@pytest.mark.parametrize("noise", [0.9, 0.5, 0.2])
def test_true_cfg_with_a_batch(model, pulid, noise):
    """Person and nobody each find their own place, in one call as in two."""
    positive, negative = prompt(1), prompt(2)
    who, nobody = identity(0), identity(0)
    object.__setattr__(nobody, "tokens", who.uncond_tokens)
    given = {"start": torch.zeros(3, 16, 8, 8), **at(noise)}
    cond = sample(apply(model, pulid, who, options=FACE), positive, **given)
    uncond = sample(apply(model, pulid, nobody, options=FACE), negative, **given)
    out = sample(apply(model, pulid, who, options=FACE), positive, negative, cfg=3.0, **given)
    assert largest_difference(out, uncond + 3.0 * (cond - uncond)) < 1e-5


@pytest.mark.parametrize("noise", [0.9, 0.5])
def test_a_painted_mask_is_multiplied(model, pulid, noise):
    """In the first block: what the face gives, on the mask's side, and nothing on the other."""
    given = {"start": latent(), **at(noise)}
    bare = first_block_output(model, **given)
    face, masked = (
        (first_block_output(apply(model, pulid, mask=mask, options=FACE), **given) - bare)
        for mask in (None, LEFT)
    )
    masked, face = (delta.unflatten(1, (4, 4)) for delta in (masked, face))
    assert torch.allclose(masked[:, :, :2], face[:, :, :2], atol=1e-5)
    assert masked[:, :, 2:].abs().max() == 0
    assert face[:, :, 2:].abs().max() > 0


def test_own_face_goes_by_the_mask_until_there_is_a_face(model, pulid):
    """A painted place need not be in the middle."""
    given = {"start": latent(), **at(0.9)}
    own = apply(model, pulid, mask=LEFT, options=OWN_FACE)
    plainly = apply(model, pulid, mask=LEFT)
    assert torch.equal(first_block_output(own, **given), first_block_output(plainly, **given))


@pytest.mark.parametrize("noise", [0.9, 0.5])
def test_own_face_alone_is_face(model, pulid, noise):
    """Nobody to divide the picture with: also beside someone with a mask or with other options."""
    one, two = (apply(model, pulid, 1, options=o) for o in (FACE, OWN_FACE))
    assert torch.equal(sample(one, **at(noise)), sample(two, **at(noise)))
    for other in ({"mask": LEFT, "options": OWN_FACE}, {"options": FACE}, {}):
        one, two = (
            apply(apply(model, pulid, 1, options=o), pulid, 2, **other) for o in (FACE, OWN_FACE)
        )
        assert largest_difference(sample(two, **at(noise)), sample(one, **at(noise))) < 1e-5


def test_order_of_people_does_not_matter(model, pulid):
    people = [(1, 1.0, OWN_FACE), (2, 0.7, OWN_FACE), (3, 1.0, FACE), (4, 0.5, None)]
    pictures = []
    for order in itertools.islice(itertools.permutations(people), 0, None, 5):
        patched = model
        for who, weight, how in order:
            patched = apply(patched, pulid, who, weight, options=how)
        pictures.append(sample(patched))
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)


KONTEXT = prompt(reference_latents=[latent(6, 4)])
CASES = {
    "cfg and batch": (FACE, {"cfg": 3.0, "start": torch.zeros(2, 16, 8, 8)}),
    "odd size": (FACE, {"start": torch.zeros(1, 16, 9, 13)}),
    "references": (OWN_FACE, {"positive": KONTEXT, "negative": KONTEXT, "cfg": 2.0}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("foreign", FORWARDS)
def test_a_foreign_forward_gives_the_same_picture(model, pulid, foreign, case):
    """Step caches swap FLUX's forward: bit for bit, in either order of the nodes."""
    how, sampling = CASES[case]
    inject = partial(apply, pulid=pulid, options=how)
    expected = sample(inject(inject(model), who=1), **STAGES, **sampling)
    patched = sample(foreign(inject(inject(model), who=1)), **STAGES, **sampling)
    assert torch.equal(patched, expected)
    assert torch.equal(
        sample(inject(inject(foreign(model)), who=1), **STAGES, **sampling), expected
    )


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_that_is_hit_keeps_the_identity(model, pulid, cache):
    """Most of what it changes without: a step that is skipped repeats the place of the one before."""
    inject = partial(apply, pulid=pulid, options=FACE)
    plain, ours = (sample(m, steps=8) for m in (model, inject(model)))
    cached = sample(cache(inject(model)), steps=8)
    assert (cached - sample(cache(model), steps=8)).norm() >= 0.9 * (ours - plain).norm()
    assert torch.equal(sample(inject(cache(model)), steps=8), cached)
    assert torch.equal(sample(inject(model), steps=8), ours)


@pytest.mark.parametrize("noise", [0.9, 0.5])
def test_references_are_not_looked_at(model, pulid, noise):
    """The place is found among the generated image's tokens: as if the references were not there."""
    given = {"positive": KONTEXT, **at(noise)}
    bare = first_block_output(model, **given)
    delta = first_block_output(apply(model, pulid, options=FACE), **given) - bare
    weights = {k: v.float() for k, v in pulid.file.load_attention(0).state_dict().items()}
    tokens = identity(0).tokens
    reference = plain.contribution(weights, tokens, bare[:, :16], (4, 4), noise)
    assert bare.shape[1] == 16 + 6
    assert largest_difference(delta[:, :16], reference) < 1e-5
    assert delta[:, 16:].abs().max() == 0


def paint(model, cfg=1.0, noise=0.5, **given):
    return sample(model, cfg=cfg, start=torch.zeros(1, 16, 16, 16), **at(noise), **given)


@pytest.mark.parametrize("noise", [0.9, 0.5])
@pytest.mark.parametrize("at_once", [2, 3, 4])
def test_tiles_in_one_call(model, pulid, noise, at_once, caplog):
    """However many: each part is looked at by itself, which is said once."""
    patched = apply(apply(model, pulid, 1, options=OWN_FACE), pulid, 2, options=OWN_FACE)
    single, together = (paint(tiled(patched, QUARTERS, n), 3.0, noise) for n in (1, at_once))
    assert largest_difference(together, single) < 1e-4
    assert caplog.text.count(TILED_FACE) == 2
    assert UNKNOWN_TILE not in caplog.text


def test_the_middle_is_the_whole_picture_s(model, pulid):
    """A tile at the border sees the border of the prior, which is next to nothing there."""
    corner = ((0, 0),)
    bare, whole, face = (
        paint(tiled(m, corner, 1), noise=0.9)
        for m in (model, apply(model, pulid), apply(model, pulid, options=FACE))
    )
    strongest = plain.mask(None, (8, 8), 0.9).view(8, 8)[:4, :4].max()
    assert 0 < (face - bare).norm() < 2 * strongest * (whole - bare).norm()


def test_area_prompts_are_pictures_of_their_own(model, pulid, caplog):
    right = prompt(area=(8, 4, 0, 4), strength=1.0)  # height, width, top, left
    patched = apply(model, pulid, options=FACE)
    out = sample(patched, right, **at(0.5))
    assert not torch.equal(out, sample(model, right, **at(0.5)))
    assert TILED_FACE not in caplog.text
