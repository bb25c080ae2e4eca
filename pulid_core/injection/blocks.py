"""Which blocks take the identity, and what is added after one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedModelError
from .attention import CrossAttentionSizes, FoldedAttention, Seen, add_products
from .masks import TokenMask
from .spatial_mask import Focus, masks_of_people

DOUBLE_BLOCK_INTERVAL = 2  # PuLID flux/model.py Flux.__init__, commit 1aa2fc7
SINGLE_BLOCK_INTERVAL = 4


BlockKey = tuple[str, int]
"""("double_block" or "single_block", index): ComfyUI's name for a FLUX block."""


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
