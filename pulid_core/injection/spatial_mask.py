"""Where an identity acts by itself: SpatialID (arXiv 2602.13994), without training or a detector.

Each cross attention answers strongest where the face forms. Per attention and picture:

    r = |what a token gathers of the identity, before `out`|, scaled to [0, 1], blurred
    M = 0.7 r + 0.3 (r above its mean + half a deviation, dilated)

M is multiplied with what the attention adds. While noise covers the picture r says nothing, and a
Gaussian in the middle stands for it; near the end M rises, for the light of the face to reach further.

Several people who share the picture without masks may divide it: each gets a softmax of their r.
That is no part of SpatialID.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numbers import as_float32

ActsOn = Literal["whole picture", "face", "own face"]
ACTS_ON_CHOICES: tuple[ActsOn, ...] = ("whole picture", "face", "own face")

Stage = Literal["early", "middle", "late"]

# leeguandong/SpatialID spatialid/core.py, commit 15f4284; sigmas of FLUX are parts of noise
EARLY_NOISE, LATE_NOISE = 0.7, 0.3
LATE_LOWEST = 0.5
PRIOR_DEVIATION = 0.3  # where 1 is half of the picture
BLUR_SIZE, BLUR_DEVIATION = 5, 1.5
SOFT_PART, HARD_PART = 0.7, 0.3
HARD_DEVIATIONS = 0.5
DILATION = 3
SMALLEST_RANGE = 1e-6

RIVALRY = 10.0
"""Sharpness of the softmax: a response stronger by 0.1 of its range gets 2.7 times as much. Ours, unmeasured."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The tokens of a picture as rows and columns, with the matrices that blur along each."""

    rows: Tensor
    """(H, H)."""
    columns: Tensor
    """(W, W)."""

    @classmethod
    def of(cls, rows: int, columns: int, device: torch.device) -> Grid:
        """Prepare a grid of rows * columns tokens on a device."""
        return cls(_blur_matrix(rows).to(device), _blur_matrix(columns).to(device))

    def blurred(self, responses: Tensor) -> Tensor:
        """Scale responses of every picture and person to [0, 1] and blur them.

        Args:
            responses: (B, T, P), at least 0.

        Returns:
            Tensor (B, P, H, W) in [0, 1].
        """
        lowest, highest = responses.aminmax(dim=1, keepdim=True)
        scaled = (responses - lowest) / (highest - lowest).clamp_(min=SMALLEST_RANGE)
        size = (len(self.rows), len(self.columns))
        return self.rows @ scaled.transpose(1, 2).unflatten(2, size) @ self.columns.T


@dataclass(frozen=True)
class Focus:
    """How one identity is kept to its place in one forward pass."""

    grid: Grid
    lowest: float
    """Where a face's mask begins, in [0, 1]: M becomes lowest + (1 - lowest) M."""
    floor: float
    """What a mask never falls below, in [0, 1]."""
    finds_face: bool
    """False where only rivals divide the picture."""
    has_rivals: bool

    @classmethod
    def at(cls, stage: Stage, grid: Grid, floor: float, has_rivals: bool) -> Focus:
        """Give SpatialID's way at a stage; early only rivals tell who stands where."""
        lowest = LATE_LOWEST if stage == "late" else 0.0
        return cls(grid, lowest, floor, stage != "early", has_rivals)

    def mask(self, blurred: Tensor) -> Tensor:
        """Turn blurred responses (B, P, H, W) into masks of that shape, in [0, 1]."""
        if not self.finds_face:
            return torch.ones_like(blurred)
        several = min(blurred[0, 0].numel() - 1, 1)  # one token alone has a deviation of 0
        deviation, mean = torch.std_mean(blurred, dim=(2, 3), correction=several, keepdim=True)
        # A GPU takes as long for each small step as for a large one: dilated before it is compared.
        dilated = F.max_pool2d(blurred, DILATION, stride=1, padding=DILATION // 2)
        hard = dilated > torch.add(mean, deviation, alpha=HARD_DEVIATIONS)
        room = 1 - self.lowest
        mask = torch.add(blurred * (SOFT_PART * room), hard, alpha=HARD_PART * room)
        return mask.add_(self.lowest).clamp_(min=self.floor, max=1)


def stage_at(sigma: float) -> Stage:
    """Say how far a picture has come at a noise level, a float32 in [0, 1]."""
    if sigma > as_float32(EARLY_NOISE):
        return "early"
    return "middle" if sigma > as_float32(LATE_NOISE) else "late"


def masks_of_people(focuses: Sequence[Focus], responses: Sequence[Tensor]) -> list[Tensor]:
    """Say where people act who see the same pictures.

    Args:
        focuses: One per group of people.
        responses: (B, T, people of the group) each.

    Returns:
        Weights in [0, 1], of the shapes of the responses.
    """
    blurred = [focus.grid.blurred(r) for focus, r in zip(focuses, responses, strict=True)]
    masks = [focus.mask(b) for focus, b in zip(focuses, blurred, strict=True)]
    rivals = [i for i, focus in enumerate(focuses) if focus.has_rivals]
    if rivals:
        strengths = torch.cat([blurred[i] for i in rivals], dim=1)
        parts = (RIVALRY * strengths).softmax(1).split([blurred[i].shape[1] for i in rivals], 1)
        for i, part in zip(rivals, parts, strict=True):
            masks[i] = masks[i] * part
    return [mask.flatten(2).transpose(1, 2) for mask in masks]


def centred_prior(
    latent_size: tuple[int, int], window: tuple[int, int, int, int], patch_size: int
) -> Tensor:
    """Give the Gaussian in the middle of a picture that stands for a face before there is one.

    Args:
        latent_size: Height and width of the whole latent image.
        window: Height, width, top, left of the part that is seen; it may go around the border.
        patch_size: Latents per token and side.

    Returns:
        Weights of the part's tokens in (0, 1], (tokens, 1); the largest of the whole picture is 1.
    """
    down, across = (
        _prior_along(latent_size[side], window[side], window[side + 2], patch_size)
        for side in (0, 1)
    )
    return torch.outer(down, across).flatten().unsqueeze(1)


def _prior_along(whole: int, seen: int, start: int, patch_size: int) -> Tensor:
    """One side of the Gaussian, where the middles of the first and last token are at -1 and 1."""
    tokens = -(-whole // patch_size)
    places = (start + patch_size * torch.arange(-(-seen // patch_size))) % whole / patch_size
    squares = (2 * places / max(tokens - 1, 1) - 1).square()
    nearest = torch.linspace(-1, 1, tokens).square().min()
    return ((nearest - squares) / (2 * PRIOR_DEVIATION**2)).exp()


def _blur_matrix(size: int) -> Tensor:
    """Blur a line of `size` places that is mirrored at its ends, (size, size)."""
    reach = BLUR_SIZE // 2
    offsets = range(-reach, reach + 1)
    kernel = [math.exp(-0.5 * (offset / BLUR_DEVIATION) ** 2) for offset in offsets]
    places, last = torch.arange(size), size - 1
    matrix = torch.zeros(size, size)
    for offset, factor in zip(offsets, kernel, strict=True):
        beside = (places + offset) % max(2 * last, 1)  # the line and its mirror image, without end
        matrix[places, torch.minimum(beside, 2 * last - beside)] += factor / sum(kernel)
    return matrix
