"""Masks that give each of several people a part of the picture, without painting."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["left to right", "top to bottom", "grid", "batch"]
LAYOUTS: tuple[Layout, ...] = ("left to right", "top to bottom", "grid", "batch")

MAX_PEOPLE = 6
MASK_SIZE = 256  # masks are resized to the token grid, at most 128 tokens for 2048 px


def region_masks(people: int, layout: Layout, softness: float) -> list[Tensor]:
    """Divide the picture, or the pictures of a batch, among people.

    Args:
        people: At least 1.
        layout: Bands from left to right or from top to bottom; a grid, read like a page, whose
            last row may hold fewer and wider cells; or one whole picture of the batch for each.
        softness: Width of the transition between neighbours as a part of a band, in [0, 1].

    Returns:
        One mask per person, (1, 256, 256) in [0, 1], for "batch" (people, 256, 256). Everywhere
        the people's masks add up to 1.
    """
    if layout == "batch":
        pictures = torch.eye(people).view(people, people, 1, 1)
        return list(pictures.expand(-1, -1, MASK_SIZE, MASK_SIZE).contiguous())
    if layout == "left to right":
        rows = [people]
    elif layout == "top to bottom":
        rows = [1] * people
    else:
        rows = _grid_rows(people)
    masks = []
    for down, columns in zip(_bands(len(rows), softness), rows, strict=True):
        masks += [torch.outer(down, across).unsqueeze(0) for across in _bands(columns, softness)]
    return masks


def _grid_rows(people: int) -> list[int]:
    """Columns of each row of a grid that is as square as it can be."""
    columns = math.ceil(math.sqrt(people))
    full, rest = divmod(people, columns)
    return [columns] * full + ([rest] if rest else [])


def _bands(count: int, softness: float) -> list[Tensor]:
    """Divide a line of 256 into bands with soft borders, (256,) each."""
    place = (torch.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    width = max(softness / count, 1 / MASK_SIZE)
    # How far each place has crossed the border before band i; the differences add up to 1.
    crossed = [((place - i / count) / width + 0.5).clamp(0, 1) for i in range(1, count)]
    crossed = [torch.ones_like(place), *crossed, torch.zeros_like(place)]
    return [before - after for before, after in itertools.pairwise(crossed)]
