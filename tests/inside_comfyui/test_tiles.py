"""Beside nodes that run FLUX on parts of the picture."""

import pytest
import torch
from pulid_pack.nodes.forward_plan import UNKNOWN_ROWS, UNKNOWN_TILE
from pulid_pack.tests.inside_comfyui.foreign import QUARTERS, tiled
from pulid_pack.tests.inside_comfyui.world import apply, largest_difference, prompt, sample

START = torch.zeros(1, 16, 16, 16)
LEFT = (torch.arange(16) < 8).float().expand(1, 16, 16)


def paint(model, cfg=1.0, batch=1, **options):
    start = torch.zeros(batch, 16, 16, 16)
    return sample(model, cfg=cfg, steps=2, start=start, **options)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("at_once", [2, 3, 4])
def test_tiles_in_one_call(model, pulid, cfg, batch, at_once):
    """However many: the person for positive rows and nobody for negative ones, in either order."""
    single = paint(tiled(apply(model, pulid), QUARTERS, 1), cfg, batch)
    together = paint(tiled(apply(model, pulid), QUARTERS, at_once), cfg, batch)
    assert largest_difference(together, single) < 1e-4
    assert torch.equal(paint(apply(tiled(model, QUARTERS, at_once), pulid), cfg, batch), together)


@pytest.mark.parametrize("corners", [QUARTERS, ((3, 5), (3, 13), (11, 5), (11, 13))])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_mask_lies_where_it_does_without_tiles(model, pulid, corners, cfg, caplog):
    """Also for tiles around the border, as SpotDiffusion rolls the picture."""
    bare = paint(tiled(model, corners, 4), cfg)
    full = paint(tiled(apply(model, pulid), corners, 4), cfg)
    masked = paint(tiled(apply(model, pulid, mask=LEFT), corners, 4), cfg)
    if corners is QUARTERS:  # a tile is masked as a whole, or not at all
        assert torch.equal(masked[..., 8:], bare[..., 8:])
        assert largest_difference(masked[..., :8], full[..., :8]) < 1e-4
    two = apply(apply(model, pulid, mask=LEFT), pulid, mask=1 - LEFT)
    assert largest_difference(paint(tiled(two, corners, 4), cfg), full) < 1e-4
    assert UNKNOWN_TILE not in caplog.text


def test_tiles_within_an_area_prompt(model, pulid):
    """The right half is an area of its own, and cut into tiles again."""
    right = prompt(area=(16, 8, 0, 8), strength=1.0)
    corners = ((0, 0), (0, 4), (8, 0), (8, 4))
    bare = paint(tiled(model, corners, 2), positive=right)
    left = paint(tiled(apply(model, pulid, mask=LEFT), corners, 2), positive=right)
    assert torch.equal(left, bare)
    other = paint(tiled(apply(model, pulid, mask=1 - LEFT), corners, 2), positive=right)
    full = paint(tiled(apply(model, pulid), corners, 2), positive=right)
    assert largest_difference(other, full) < 1e-4
    assert not torch.equal(other, bare)


def test_a_tile_whose_place_is_unknown_is_reported_once(model, pulid, caplog):
    patched = apply(model, pulid, mask=LEFT)
    paint(tiled(patched, QUARTERS, 2, around=lambda tile: 1.01 * tile))
    assert caplog.text.count(UNKNOWN_TILE) == 1
    caplog.clear()
    paint(tiled(apply(model, pulid), QUARTERS, 2, around=lambda tile: 1.01 * tile))
    assert UNKNOWN_TILE not in caplog.text  # without a mask it does not matter


def test_rows_that_cannot_be_dealt_out_are_reported_once(model, pulid, caplog):
    """A node that runs positive and negative prompts in calls of its own, but says nothing of it."""
    patched = apply(model, pulid)

    def one_by_one(apply_model, call):
        half = len(call["input"]) // 2
        halves = slice(0, half), slice(half, None)
        return torch.cat(
            [
                apply_model(
                    call["input"][rows],
                    call["timestep"][rows],
                    **{
                        k: v[rows] if isinstance(v, torch.Tensor) else v
                        for k, v in call["c"].items()
                    },
                )
                for rows in halves
            ]
        )

    patched.set_model_unet_function_wrapper(one_by_one)
    assert paint(patched, cfg=3.0).isfinite().all()
    said = UNKNOWN_ROWS.split("%d")[0]
    assert caplog.text.count(said) == 1
    caplog.clear()
    paint(patched, batch=2)
    assert said not in caplog.text
