"""When and where an identity acts: plain functions, without ComfyUI."""

import math

import pytest
import torch
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.injection.masks import find_tile, mask_to_tokens
from pulid_pack.pulid_core.injection.options import parse_factors
from pulid_pack.pulid_core.injection.regions import MASK_SIZE, region_masks
from pulid_pack.pulid_core.injection.schedule import (
    SCHEDULES,
    SigmaRange,
    interpolate,
    parse_points,
    progress_at,
)


def falling(percent):
    """A schedule from 2 to 0."""
    return 2 * (1 - percent)


# When


@pytest.mark.parametrize(
    ("start", "end", "inside", "outside"),
    [
        (0.25, 0.75, [1.5, 1.0, 0.5], [1.51, 0.49, 0.0, 2.0]),
        (0.0, 0.5, [9.0, 2.0, 1.0], [0.99]),  # a custom schedule may begin above the model's own
        (0.5, 1.0, [1.0, 0.1, 0.0], [1.01, 2.0]),
        (0.5, 0.5, [1.0], [0.999, 1.001]),
        (1.0, 1.0, [0.0], [0.001, 2.0]),
    ],
)
def test_a_range_of_the_schedule_in_sigmas(start, end, inside, outside):
    limits = SigmaRange.from_percents(start, end, falling)
    assert all(sigma in limits for sigma in inside)
    assert not any(sigma in limits for sigma in outside)


def test_both_ends_are_rounded_as_the_sampler_rounds():
    """A tenth is none in float32: the step exactly there must count."""
    sigma = float(torch.tensor(falling(0.1)))
    assert sigma != falling(0.1)
    assert sigma in SigmaRange.from_percents(0.1, 0.1, falling)


@pytest.mark.parametrize(
    ("sigma", "start", "end", "progress"),
    [
        (2.0, 0.0, 1.0, 0.0),
        (1.0, 0.0, 1.0, 0.5),
        (0.0, 0.0, 1.0, 1.0),
        (1.5, 0.25, 0.75, 0.0),
        (1.25, 0.25, 0.75, 0.25),
        (0.5, 0.25, 0.75, 1.0),
        (1.9, 0.25, 0.75, 0.0),  # before the range
    ],
)
def test_progress(sigma, start, end, progress):
    assert progress_at(sigma, start, end, falling) == pytest.approx(progress, abs=1e-4)


def test_a_broken_line():
    """Between points straight, outside level, at a point its own factor."""
    line = ((0.2, 1.0), (0.4, 3.0), (1.0, 0.0))
    places = {0.0: 1.0, 0.2: 1.0, 0.25: 1.5, 0.3: 2.0, 0.4: 3.0, 0.7: 1.5, 1.0: 0.0}
    for progress, factor in places.items():
        assert interpolate(line, progress) == pytest.approx(factor)
    assert interpolate(((0.5, 0.3),), 0.9) == 0.3
    assert interpolate(((0.0, 1.0), (0.5, 2.0)), 0.9) == 2.0


def test_named_schedules():
    assert [interpolate(SCHEDULES["constant"], t) for t in (0, 0.5, 1)] == [1, 1, 1]
    assert [interpolate(SCHEDULES["ease-in"], t) for t in (0, 0.5, 1)] == [0, 0.5, 1]
    assert [interpolate(SCHEDULES["ease-out"], t) for t in (0, 0.5, 1)] == [1, 0.5, 0]
    smooth = 0.3 * 0.3 * (3 - 2 * 0.3)
    assert interpolate(SCHEDULES["ease-in"], 0.3) == pytest.approx(smooth, abs=4e-4)


def test_points():
    assert parse_points(" 0:0.2, .5:1 ,1:0.8,") == ((0.0, 0.2), (0.5, 1.0), (1.0, 0.8))
    for wrong in (
        "",
        "0",
        "0:1:2",
        "0.5:1, 0.2:1",
        "0.5:1, 0.5:2",
        "0:inf",
        "0:nan",
        "2:1",
        "-1:1",
    ):
        with pytest.raises(PulidError, match="progress:factor"):
            parse_points(wrong)


def test_factors():
    assert parse_factors(" 1, -0.5,0 ", "double_blocks") == (1.0, -0.5, 0.0)
    for wrong in ("", ",", "a", "1:2", "nan", "1, inf"):
        with pytest.raises(PulidError, match="double_blocks needs one number"):
            parse_factors(wrong, "double_blocks")


# Where


def test_a_window_of_a_mask():
    """Height, width, top, left: a wide picture with one bright latent, seen whole and in part."""
    mask = torch.zeros(1, 8, 16)
    mask[0, 2, 12] = 1
    whole = mask_to_tokens(mask, (8, 16), None, 2).view(4, 8)
    assert whole.nonzero().tolist() == [[1, 6]]
    assert whole[1, 6] == 0.25
    seen = mask_to_tokens(mask, (8, 16), (4, 8, 2, 8), 2).view(2, 4)
    assert seen.nonzero().tolist() == [[0, 2]]
    nothing = mask_to_tokens(mask, (8, 16), (4, 8, 4, 0), 2)
    assert nothing.abs().max() == 0


def test_a_window_around_the_border():
    """Some tiles are cut from a picture that was rolled."""
    mask = torch.zeros(1, 8, 8)
    mask[0, 0, 0] = 1
    seen = mask_to_tokens(mask, (8, 8), (4, 4, 6, 6), 2).view(2, 2)
    assert seen.nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (64, 48), (5, 7)])
def test_masks_of_other_sizes(size):
    """Half stays half, with a hard border where the mask is at least as fine as the latents."""
    mask = torch.zeros(2, *size)
    mask[1] = 1
    tokens = mask_to_tokens(mask, (6, 10), None, 2)
    assert tokens.shape == (2, 15, 1)
    assert tokens[0].abs().max() == 0
    assert torch.allclose(tokens[1], torch.ones(15, 1))
    half = torch.zeros(1, 48, 80)
    half[..., :40] = 1
    columns = mask_to_tokens(half, (6, 12), None, 2).view(3, 6)[0].tolist()
    assert columns == [1, 1, 1, 0, 0, 0]


def test_odd_latents_are_padded():
    tokens = mask_to_tokens(torch.ones(1, 5, 5), (5, 7), None, 2)
    assert tokens.shape == (1, 12, 1)
    assert torch.allclose(tokens, torch.ones(1, 12, 1))


def test_a_tile_is_found_by_its_values():
    latent = torch.randn(4, 12, 20, generator=torch.Generator().manual_seed(0))
    assert find_tile(latent[:, 3:9, 5:15], latent) == (6, 10, 3, 5)
    assert find_tile(latent, latent) == (12, 20, 0, 0)
    rolled = latent.roll((5, -3), (-2, -1))
    height, width, top, left = find_tile(rolled[:, :6, :10], latent)
    assert torch.equal(latent.roll((-top, -left), (-2, -1))[:, :height, :width], rolled[:, :6, :10])


@pytest.mark.parametrize("what", ["noise added", "flipped", "larger", "flat"])
def test_a_tile_whose_place_cannot_be_told(what):
    latent = torch.randn(4, 12, 20, generator=torch.Generator().manual_seed(0))
    tile = latent[:, 3:9, 5:15].clone()
    if what == "noise added":
        tile[0, 4, 4] += 0.1
    elif what == "flipped":
        tile = tile.flip(-1)
    elif what == "larger":
        tile = torch.zeros(4, 13, 20)
    else:
        tile, latent = torch.zeros(4, 6, 10), torch.zeros(4, 12, 20)
    assert find_tile(tile, latent) is None


@pytest.mark.parametrize("layout", ["left to right", "top to bottom", "grid", "batch"])
@pytest.mark.parametrize("softness", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("people", range(1, 9))
def test_region_masks(layout, softness, people):
    """In [0, 1], summing to 1, read like a page."""
    masks = region_masks(people, layout, softness)
    pictures = people if layout == "batch" else 1
    assert [mask.shape for mask in masks] == [(pictures, MASK_SIZE, MASK_SIZE)] * people
    together = torch.stack(masks)
    assert together.min() >= 0
    assert torch.allclose(together.sum(0), torch.ones(()), atol=1e-6)
    if layout == "batch":
        assert [int(mask.flatten(1).mean(1).argmax()) for mask in masks] == list(range(people))
        return
    columns = {"left to right": people, "top to bottom": 1}.get(layout, math.ceil(people**0.5))
    brightest = [divmod(int(mask.flatten().argmax()), MASK_SIZE) for mask in masks]
    for number, (down, across) in enumerate(brightest):
        row, column = divmod(number, columns)
        in_row = min(columns, people - row * columns)
        rows = math.ceil(people / columns)
        assert (down * rows // MASK_SIZE, across * in_row // MASK_SIZE) == (row, column)


def test_softness_is_the_width_of_the_border():
    hard, soft = (region_masks(2, "left to right", s)[0][0, 0] for s in (0.0, 0.5))
    assert ((hard > 0) & (hard < 1)).sum() <= 1
    assert ((soft > 0) & (soft < 1)).sum() == MASK_SIZE // 4
