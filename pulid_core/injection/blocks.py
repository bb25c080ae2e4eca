"""Which blocks, when, how strongly, where: plain functions of numbers and tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UnsupportedModelError
from ..numbers import as_float32
from .attention import CrossAttentionSizes, FoldedAttention, Seen, add_products
from .spatial_mask import Focus, masks_of_people

DOUBLE_BLOCK_INTERVAL = 2  # PuLID flux/model.py Flux.__init__, commit 1aa2fc7
SINGLE_BLOCK_INTERVAL = 4

PERCENT_TOLERANCE = 1e-5
MAX_TILE_CORNERS = 64  # places that are looked at; noise hardly ever has two

BlockKey = tuple[str, int]
"""("double_block" or "single_block", index): ComfyUI's name for a FLUX block."""

Points = tuple[tuple[float, float], ...]
"""A broken line: (progress, factor) with rising progress in [0, 1]."""

Window = tuple[int, int, int, int]
"""Height, width, top, left: part of the latent image, as ComfyUI's areas."""


def injected_blocks(
    sizes: CrossAttentionSizes, image_dim: int, double_blocks: int, single_blocks: int
) -> dict[BlockKey, int]:
    """Say which cross attention follows which block.

    Args:
        sizes: Of the PuLID checkpoint.
        image_dim: Width of the model's image tokens.
        double_blocks: Number of double blocks of the model.
        single_blocks: Number of single blocks of the model.

    Returns:
        Block -> index of its cross attention, in the order in which a forward pass meets them.

    Raises:
        UnsupportedModelError: Width or depth do not fit the checkpoint.
    """
    if sizes.image_dim != image_dim:
        raise UnsupportedModelError(
            f"The PuLID checkpoint is for a FLUX model {sizes.image_dim} wide, but the connected "
            f"model is {image_dim} wide. Choose the PuLID file made for this model."
        )
    blocks = [("double_block", i) for i in range(0, double_blocks, DOUBLE_BLOCK_INTERVAL)]
    blocks += [("single_block", i) for i in range(0, single_blocks, SINGLE_BLOCK_INTERVAL)]
    if len(blocks) != sizes.count:
        raise UnsupportedModelError(
            f"The PuLID checkpoint holds {sizes.count} cross attentions, but a model with "
            f"{double_blocks} double and {single_blocks} single blocks takes {len(blocks)}. "
            "Use a full FLUX.1 model and the PuLID file made for it."
        )
    return {key: index for index, key in enumerate(blocks)}


@dataclass(frozen=True)
class SigmaRange:
    """A part of the noise schedule, in sigmas, both ends included."""

    first: float
    """The higher one, where the range starts."""
    last: float

    @classmethod
    def from_percents(
        cls, start_at: float, end_at: float, percent_to_sigma: Callable[[float], float]
    ) -> SigmaRange:
        """Turn percents of the noise schedule into sigmas.

        Args:
            start_at: 0 is the first, noisiest step; 1 is the end. A start of 0 has no upper limit:
                a custom schedule may begin above the model's own highest sigma.
            end_at: As start_at.
            percent_to_sigma: The model sampling's own conversion.
        """
        first = math.inf if start_at <= 0 else as_float32(percent_to_sigma(start_at))
        return cls(first, as_float32(percent_to_sigma(end_at)))

    def __contains__(self, sigma: float) -> bool:
        return self.first >= sigma >= self.last


def progress_at(
    sigma: float, start_at: float, end_at: float, percent_to_sigma: Callable[[float], float]
) -> float:
    """Say how far a sigma lies between two percents of the noise schedule.

    Args:
        sigma: Inside the range.
        start_at: Where the result is 0.
        end_at: Where the result is 1.
        percent_to_sigma: The model sampling's own conversion, which never rises.

    Returns:
        Progress in [0, 1], to 1e-5 of the schedule.
    """
    if sigma >= as_float32(percent_to_sigma(start_at)):
        return 0.0
    low, high = start_at, end_at
    while high - low > PERCENT_TOLERANCE:
        middle = (low + high) / 2
        if as_float32(percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return (high - start_at) / max(end_at - start_at, PERCENT_TOLERANCE)


def interpolate(points: Points, progress: float) -> float:
    """Read a broken line at one place; before its first and after its last point it is level.

    Args:
        points: At least one, by rising progress.
        progress: In [0, 1].
    """
    for (left, low), (right, high) in itertools.pairwise(points):
        if left <= progress < right:
            return low + (high - low) * (progress - left) / (right - left)
    return points[0][1] if progress < points[0][0] else points[-1][1]


def mask_to_tokens(
    mask: Tensor, latent_size: tuple[int, int], window: Window | None, patch_size: int
) -> Tensor:
    """Resize a mask to the latents, cut out what a forward pass sees, and average it per token.

    Args:
        mask: (M, H, W) in [0, 1].
        latent_size: Height and width of the whole latent image.
        window: The part of it that the pass computes (area prompts), or None for all.
        patch_size: Latents per token and side, 2. Odd sizes are padded, as FLUX does.

    Returns:
        Weights, (M, tokens, 1).
    """
    latents = mask.unsqueeze(1).float()
    if mask.shape[-2] >= latent_size[0] and mask.shape[-1] >= latent_size[1]:
        latents = F.adaptive_avg_pool2d(latents, latent_size)  # keeps hard borders hard
    else:
        latents = F.interpolate(latents, latent_size, mode="bilinear", antialias=True)
    if window is not None:
        height, width, top, left = window
        # Around the border: some tiles are cut from a picture that was rolled.
        latents = latents.roll((-top, -left), (-2, -1))[..., :height, :width]
    height, width = latents.shape[-2:]
    padding = (0, -width % patch_size, 0, -height % patch_size)
    tokens = F.avg_pool2d(F.pad(latents, padding, mode="replicate"), patch_size)
    return tokens.flatten(2).transpose(1, 2)  # (M, tokens, 1)


def find_tile(tile: Tensor, latent: Tensor) -> Window | None:
    """Find where a tile was cut from a latent image, also around its border, by their equal values.

    Args:
        tile: (C, h, w).
        latent: (C, H, W), of the same device.

    Returns:
        Its window; None if it is not a part of the image, or if it is in more than one place.
    """
    height, width = tile.shape[-2:]
    if height > latent.shape[-2] or width > latent.shape[-1]:
        return None
    corners = (latent == tile[:, :1, :1]).all(0).nonzero().tolist()
    found = [
        (height, width, top, left)
        for top, left in corners[:MAX_TILE_CORNERS]
        if torch.equal(latent.roll((-top, -left), (-2, -1))[:, :height, :width], tile)
    ]
    return found[0] if len(found) == 1 and len(corners) <= MAX_TILE_CORNERS else None


@dataclass(frozen=True, eq=False)
class TokenMask:
    """Where among the image tokens one identity acts, and how strongly."""

    places: Tensor | None
    """(K,) indices of the tokens; None for all of them."""
    weights: Tensor
    """(K, 1)."""

    @classmethod
    def of(
        cls, weights: Tensor, device: torch.device, dtype: torch.dtype, all_look: bool = False
    ) -> TokenMask | None:
        """Prepare one mask (tokens, 1) for a device; None where it is 0 everywhere.

        Args:
            weights: The mask.
            device: Of the image tokens.
            dtype: Of the image tokens.
            all_look: Whether the tokens where it is 0 are looked at, too.
        """
        places = weights[:, 0].nonzero()[:, 0]
        if len(places) == 0:
            return None
        if all_look or len(places) == len(weights):
            return cls(None, weights.to(device, dtype))
        return cls(places.to(device), weights[places].to(device, dtype))


@dataclass(frozen=True, eq=False)
class Share:
    """What one identity adds to some rows of one forward pass."""

    rows: slice
    attentions: Sequence[Any]
    """FoldedAttention or KeyValueAttention, in injection order."""
    weights: Sequence[float]
    """One per attention; 1 is the strength PuLID was trained with."""
    mask: TokenMask | None
    """None for everywhere."""
    focus: Focus | None = None
    """What keeps it to its own place; then all tokens look, also where `mask` is 0."""


def add_identities(
    image: Tensor,
    generated: slice,
    shares: Sequence[Share],
    attention_index: int,
    in_place: bool = False,
) -> Tensor:
    """Add identities to the output of one block. All of them look at the same image tokens.

    Args:
        image: Tokens after the block, (B, T, D): text, generated image, reference images.
        generated: Where the generated image lies among them; nothing else changes.
        shares: Who acts on which rows; where several act, their contributions are summed.
        attention_index: Which of their attentions belongs to the block.
        in_place: Whether `image` may be changed; else another node may hold it, too.

    Returns:
        Tensor (B, T, D): `image` itself if it was changed in place, or nothing acts here.
    """
    shares = [share for share in shares if share.weights[attention_index] != 0]
    if not shares:
        return image
    tokens = image[:, generated]
    groups = list(_side_by_side(shares, attention_index))
    looks = [_look(tokens, group, attention_index) for group in groups]
    _keep_to_places(groups, looks, attention_index)
    out = image if in_place and not image.requires_grad else image.clone()
    for group, look in zip(groups, looks, strict=True):
        target = out[group[0].rows, generated]
        layers = [share.attentions[attention_index].out for share in group]
        weights = [share.weights[attention_index] for share in group]
        places = group[0].mask and group[0].mask.places
        if places is None:
            add_products(target, look, layers, weights)
        else:
            part = target[:, places]
            add_products(part, look, layers, weights)
            target[:, places] = part
    return out


def _side_by_side(shares: Sequence[Share], attention_index: int) -> Iterator[list[Share]]:
    """Put shares together whose attentions can run as one: the same rows, no mask, the same form."""
    groups: dict[Any, list[Share]] = {}
    for share in shares:
        attention = share.attentions[attention_index]
        if share.mask is None and isinstance(attention, FoldedAttention):
            key = (share.rows.start, share.rows.stop, attention.tokens, share.focus)
        else:
            key = share
        groups.setdefault(key, []).append(share)
    yield from groups.values()


def _look(tokens: Tensor, group: list[Share], attention_index: int) -> Tensor:
    mask, attentions = group[0].mask, [share.attentions[attention_index] for share in group]
    tokens = tokens[group[0].rows]
    if mask is not None and mask.places is not None:
        tokens = tokens[:, mask.places]
    look = attentions[0].look(Seen.of(tokens), attentions)
    return look if mask is None or group[0].focus else look * mask.weights.to(look)


def _keep_to_places(groups: list[list[Share]], looks: list[Tensor], attention_index: int) -> None:
    """Scale the looks of those who keep to their own place, in the list.

    Args:
        groups: Those of a group run as one. Rivals are looked for among those of the same rows.
        looks: Of each group, (B, T, inputs of their `out` layers side by side).
        attention_index: Which of their attentions looked.
    """
    by_rows: dict[tuple[int, int], list[int]] = {}
    for i, group in enumerate(groups):
        if group[0].focus:
            by_rows.setdefault((group[0].rows.start, group[0].rows.stop), []).append(i)
    for places in by_rows.values():
        people = [[share.attentions[attention_index] for share in groups[i]] for i in places]
        responses = [
            attentions[0].responses(looks[i].detach(), attentions)
            for i, attentions in zip(places, people, strict=True)
        ]
        focuses = [focus for i in places if (focus := groups[i][0].focus)]
        for i, weights in zip(places, masks_of_people(focuses, responses), strict=True):
            mask = groups[i][0].mask
            weights = weights.to(looks[i]) if mask is None else weights.to(looks[i]) * mask.weights
            per_person = looks[i].unflatten(-1, (weights.shape[-1], -1))
            scale = torch.mul if looks[i].requires_grad else Tensor.mul_
            looks[i] = scale(per_person, weights.unsqueeze(-1)).flatten(2)
