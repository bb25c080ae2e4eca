"""Several people, masks, batches, and the negative pass of true CFG."""

import itertools
import uuid

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from pulid_pack.nodes.regions import MAX_PEOPLE, PulidRegions
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.injection.options import InjectionOptions
from pulid_pack.tests.inside_comfyui.world import (
    Acts,
    apply,
    first_block_output,
    guide,
    identity,
    largest_difference,
    latent,
    prompt,
    sample,
)


def half(side):
    mask = torch.zeros(1, 8, 8)
    mask[..., slice(0, 4) if side == "left" else slice(4, 8)] = 1
    return mask


def test_people_sum_up(model, pulid):
    """All see the block's own output: their contributions add, overlapping or not."""
    bare = first_block_output(model)
    one = first_block_output(apply(model, pulid, 1, mask=half("left"))) - bare
    two = first_block_output(apply(model, pulid, 2, 0.5)) - bare
    both = (
        first_block_output(apply(apply(model, pulid, 1, mask=half("left")), pulid, 2, 0.5)) - bare
    )
    assert torch.allclose(both, one + two, atol=1e-5)


def test_order_of_people_does_not_matter(model, pulid):
    """Three people in every order, masks overlapping: the same picture bit for bit."""
    people = [(1, 1.0, half("left")), (2, 0.7, None), (3, -0.5, torch.full((1, 4, 4), 0.3))]
    pictures = []
    for order in itertools.permutations(people):
        patched = model
        for who, weight, mask in order:
            patched = apply(patched, pulid, who, weight, mask=mask)
        pictures.append(sample(patched))
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)


def test_regions_keep_to_their_place(model, pulid):
    """In the block's output each half belongs to one person alone."""
    left, right = PulidRegions.execute(2, "left to right", 0.0).result[:2]
    both = apply(apply(model, pulid, 1, mask=left), pulid, 2, mask=right)
    grid = first_block_output(both).unflatten(1, (4, 4))
    one = first_block_output(apply(model, pulid, 1)).unflatten(1, (4, 4))
    two = first_block_output(apply(model, pulid, 2)).unflatten(1, (4, 4))
    assert torch.allclose(grid[:, :, :2], one[:, :, :2], atol=1e-5)
    assert torch.allclose(grid[:, :, 2:], two[:, :, 2:], atol=1e-5)


@pytest.mark.parametrize("layout", ["left to right", "top to bottom", "grid", "batch"])
@pytest.mark.parametrize("softness", [0.0, 0.1, 1.0])
def test_region_masks(layout, softness):
    """For any number of people: within [0, 1], summing to 1, empty for the others, in order."""
    for people in range(1, MAX_PEOPLE + 1):
        masks = PulidRegions.execute(people, layout, softness).result
        assert len(masks) == MAX_PEOPLE
        used = torch.stack(masks[:people])
        assert used.min() >= 0
        assert used.max() <= 1
        assert torch.allclose(used.sum(0), torch.ones(()), atol=1e-6)
        assert all(mask.abs().max() == 0 for mask in masks[people:])
        if layout == "batch":
            assert [int(mask.flatten(1).mean(1).argmax()) for mask in used] == list(range(people))
            continue
        centres = [centre(mask) for mask in used]
        if layout == "left to right":
            assert centres == sorted(centres, key=lambda c: c[1])
        elif layout == "top to bottom":
            assert centres == sorted(centres)
        else:
            assert [round(y, 1) for y, _ in centres] == sorted(round(y, 1) for y, _ in centres)


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.zeros(0, 8, 8), r"the shape \(0, 8, 8\)"),
        (torch.ones(1, 8, 8, 1), r"the shape \(1, 8, 8, 1\)"),
        (torch.full((8, 8), torch.nan), "values from nan to nan"),
        (torch.full((8, 8), 1e30), "values from 1e.30 to 1e.30"),
        ("a mask", "str"),
    ],
    ids=["empty", "channels last", "nan", "absurd", "no mask"],
)
def test_a_mask_that_says_nothing_is_refused(model, pulid, mask, found):
    with pytest.raises(
        PulidError, match=f"at least one mask of numbers from 0 to 1 .* got {found}"
    ):
        apply(model, pulid, mask=mask)


def test_masks_of_other_layouts(model, pulid):
    """(H, W) and (M, 1, H, W), as some nodes give them, are the same mask."""
    usual = first_block_output(apply(model, pulid, mask=half("left")))
    for mask in (half("left")[0], half("left")[None]):
        assert torch.equal(first_block_output(apply(model, pulid, mask=mask)), usual)


def centre(mask):
    place = torch.linspace(0, 1, mask.shape[-1])
    total = mask.sum()
    return float((mask[0].sum(1) * place).sum() / total), float(
        (mask[0].sum(0) * place).sum() / total
    )


def test_several_people_for_the_items_of_a_batch(model, pulid):
    """With the batch layout item i shows person i alone."""
    masks = PulidRegions.execute(3, "batch", 0.1).result
    patched = model
    for who in range(3):
        patched = apply(patched, pulid, who, mask=masks[who])
    together = first_block_output(patched, start=torch.zeros(3, 16, 8, 8))
    for who in range(3):
        alone = first_block_output(apply(model, pulid, who), start=torch.zeros(3, 16, 8, 8))
        assert torch.allclose(together[who], alone[who], atol=1e-5)


def test_a_batch_of_masks_belongs_to_a_batch_of_latents(model, pulid):
    masks = torch.cat((half("left"), half("right")))
    start = latent(batch=4)
    out = first_block_output(apply(model, pulid, mask=masks), start=start)
    for item in range(4):
        single = first_block_output(apply(model, pulid, mask=masks[item % 2]), start=start)
        assert torch.equal(out[item], single[item])


def area_prompt(*area, **extra):
    return prompt(area=area, strength=1.0, **extra)


def test_area_prompts_see_their_part_of_the_mask(model, pulid):
    """ComfyUI cuts the latent for an area; the mask is cut with it, never squeezed into it."""
    right = area_prompt(8, 4, 0, 4)  # height, width, top, left
    bare = sample(model, right)
    assert torch.equal(sample(apply(model, pulid, mask=half("left")), right), bare)
    masked = sample(apply(model, pulid, mask=half("right")), right)
    assert torch.equal(masked, sample(apply(model, pulid), right))
    assert not torch.equal(masked, bare)


def test_two_area_prompts_and_two_people(model, pulid):
    """Areas of equal size run in one batch, each with its own part of the masks."""
    areas = area_prompt(8, 4, 0, 0) + area_prompt(8, 4, 0, 4, seed=9)
    left_only = sample(apply(model, pulid, 1, mask=half("left")), areas, steps=1)
    bare = sample(model, areas, steps=1)
    assert torch.equal(left_only[..., 4:], bare[..., 4:])
    assert not torch.equal(left_only[..., :4], bare[..., :4])


def test_areas_with_true_cfg(model, pulid):
    """ComfyUI gives the negative prompt copies of the areas; they stay negative."""
    acts = Acts(apply(model, pulid))
    sample(acts.model, prompt() + area_prompt(8, 4, 0, 4), prompt(2), cfg=2.0)
    person, nobody = digests(acts, pulid)
    for _, who in acts.seen:
        assert all(seen == ({nobody} if index == 1 else {person}) for index, seen in who.items())


def digests(acts, pulid, person=0):
    who = identity(person)
    return [pulid.folds.get(t, torch.float32).digest for t in (who.tokens, who.uncond_tokens)]


@pytest.mark.parametrize("lengths", [(16, 16), (16, 24)])
def test_true_cfg(model, pulid, lengths):
    """One step by hand: the person in the positive pass, nobody in the negative one."""
    positive, negative = prompt(1, lengths[0]), prompt(2, lengths[1])
    who = identity(0)
    nobody = identity(0)
    object.__setattr__(nobody, "tokens", who.uncond_tokens)
    cond = sample(apply(model, pulid, who, 0.8), positive, steps=1)
    uncond = sample(apply(model, pulid, nobody, 0.8), negative, steps=1)
    acts = Acts(apply(model, pulid, who, 0.8))
    out = sample(acts.model, positive, negative, cfg=3.0, steps=1)
    assert len(acts.seen) == (1 if lengths[0] == lengths[1] else 2)  # one call, or two
    assert largest_difference(out, uncond + 3.0 * (cond - uncond)) < 1e-5


def test_true_cfg_with_a_batch_and_more_photos(model, pulid):
    """Person and nobody may have different numbers of tokens, and batches of several latents."""
    who = identity(0, tokens=96)
    start = torch.zeros(3, 16, 8, 8)
    positive, negative = prompt(1), prompt(2)
    out = sample(apply(model, pulid, who), positive, negative, cfg=2.0, steps=1, start=start)
    cond = sample(apply(model, pulid, who), positive, steps=1, start=start)
    nobody = identity(0)
    object.__setattr__(nobody, "tokens", who.uncond_tokens)
    uncond = sample(apply(model, pulid, nobody), negative, steps=1, start=start)
    assert largest_difference(out, uncond + 2.0 * (cond - uncond)) < 1e-5


@pytest.mark.parametrize(
    ("choice", "expected"), [("nobody", 1), ("same person", 0), ("nothing", None)]
)
def test_choice_of_the_negative_pass(model, pulid, choice, expected):
    acts = Acts(apply(model, pulid, options=InjectionOptions(negative_sees=choice)))
    sample(acts.model, cfg=2.0, steps=1)
    known = digests(acts, pulid)
    for _, who in acts.seen:
        if 1 in who:
            assert who[1] == (set() if expected is None else {known[expected]})
        if 0 in who:
            assert who[0] == {known[0]}


def test_cfg_1_costs_nothing(model, pulid):
    """Nobody's tokens are neither folded nor loaded until a negative pass needs them."""
    patched = apply(model, pulid)
    nobody = pulid.folds.get(identity(0).uncond_tokens, torch.float32)
    sample(patched, cfg=1.0)
    assert nobody.models() == []
    sample(patched, cfg=2.0)
    assert len(nobody.models()) == 1
    assert nobody.models()[0] not in patched.model_patches_models()


def test_dual_cfg_guider(model, pulid):
    """DualCFGGuider hands over negative, middle, positive: the first is the negative one."""
    acts = Acts(apply(model, pulid))
    guider = Guider_DualCFG(acts.model)
    guider.set_conds(prompt(1), prompt(2), prompt(3))
    guider.set_cfg(3.0, 2.0)
    guide(guider)
    person, nobody = digests(acts, pulid)
    assert acts.seen
    for _, who in acts.seen:
        assert all(seen == ({nobody} if index == 0 else {person}) for index, seen in who.items())


def test_perp_neg_guider(model, pulid):
    """PerpNegGuider hands over positive, negative, empty: only the first is the person."""
    acts = Acts(apply(model, pulid))
    guider = Guider_PerpNeg(acts.model)
    guider.set_conds(prompt(1), prompt(2), prompt(3))
    guider.set_cfg(3.0, 1.0)
    guide(guider)
    person, nobody = digests(acts, pulid)
    for _, who in acts.seen:
        assert all(seen == ({person} if index == 0 else {nobody}) for index, seen in who.items())


def test_negative_passes_alone(model, pulid):
    """Guidance nodes run the negative conditions as a list of one; its uuids tell."""
    acts = Acts(apply(model, pulid))
    guider = comfy.samplers.CFGGuider(acts.model)
    guider.set_conds(prompt(1), prompt(2))
    guider.set_cfg(2.0)

    def alone(args):
        comfy.samplers.calc_cond_batch(
            args["model"], [args["uncond"]], args["input"], args["sigma"], args["model_options"]
        )
        return args["denoised"]

    acts.model.set_model_sampler_post_cfg_function(alone)
    guide(guider, sigmas=(1.0, 0.0))
    nobody = digests(acts, pulid)[1]
    assert acts.seen[-1][1] == {0: {nobody}}


def test_conditions_that_no_guider_knows(model, pulid):
    """Lists with uuids of their own go by their place, as CFGGuider orders them."""
    acts = Acts(apply(model, pulid))
    guider = comfy.samplers.CFGGuider(acts.model)
    guider.set_conds(prompt(1), prompt(2))
    guider.set_cfg(2.0)

    def renamed(args):
        lists = [[{**c, "uuid": uuid.uuid4()} for c in args[k]] for k in ("cond", "uncond")]
        given = (args["model"], lists, args["input"], args["sigma"], args["model_options"])
        comfy.samplers.calc_cond_batch(*given)
        return args["denoised"]

    acts.model.set_model_sampler_post_cfg_function(renamed)
    guide(guider, sigmas=(1.0, 0.0))
    person, nobody = digests(acts, pulid)
    passes = len(acts.seen)
    for _, who in acts.seen[passes // 2 :]:
        assert all(seen == ({nobody} if index == 1 else {person}) for index, seen in who.items())


def test_a_model_called_without_a_guider(model, pulid):
    """A training or preview node that calls the model by itself gets the identity as well."""
    patched = apply(model, pulid, mask=half("left"))
    comfy.model_management.load_models_gpu([patched])
    options = {
        **patched.model_options["transformer_options"],
        "wrappers": patched.wrappers,
        "cond_or_uncond": [0],
        "sigmas": torch.tensor([0.7]),
    }
    given = {
        "c_crossattn": prompt()[0][0],
        "y": prompt()[0][1]["pooled_output"],
        "guidance": torch.tensor([3.5]),
    }
    x = latent()
    with_identity = model.model.apply_model(
        x, options["sigmas"], transformer_options=options, **given
    )
    plain = {"cond_or_uncond": [0], "sigmas": options["sigmas"]}
    without = model.model.apply_model(x, options["sigmas"], transformer_options=plain, **given)
    assert with_identity.isfinite().all()
    assert not torch.equal(with_identity, without)


def test_dual_model_guider(world, model, pulid):
    """The negative pass of DualModelGuider runs on another model with the first one's options."""
    custom_sampler = __import__("comfy_extras.nodes_custom_sampler", fromlist=["x"])
    if not hasattr(custom_sampler, "Guider_DualModel"):
        pytest.skip("this ComfyUI has no DualModelGuider yet")
    acts = Acts(apply(model, pulid))
    guider = custom_sampler.Guider_DualModel(acts.model, world.load_flux())
    guider.set_conds(prompt(1), prompt(2))
    guider.set_cfg(2.0)
    guide(guider, sigmas=(1.0, 0.0))
    person, nobody = digests(acts, pulid)
    assert [who for _, who in acts.seen] == [{0: {person}}, {0: {nobody}}]
