"""Several photos of one person -> one set of identity tokens. Weights count photos.

In every fusion a photo of weight 2 counts as if it were given twice, and one of weight 0 as if it were
not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import PulidError

COPIES_OF_STRONGEST = 4
"""`concat` rounds weights to quarters of the largest one, because tokens come in whole copies."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the networks saw of one face."""

    key: str
    """Names photo and face."""

    crops: Tensor
    """Aligned colour crop beside the masked gray one, (1, 3, 336, 672) in [0, 1]."""
    condition: Tensor
    """ArcFace vector and pooled vision vector, (1, 1280)."""
    hidden_states: tuple[Tensor, ...]
    """Of the vision tower, five (1, 577, 1024)."""

    def to(self, device: torch.device) -> Look:
        """Move to where the encoder computes."""
        hidden_states = tuple(state.to(device) for state in self.hidden_states)
        return Look(self.key, self.crops, self.condition.to(device), hidden_states)


Fuse = Callable[[list[Look], tuple[float, ...], Callable[[Look], Tensor], Any], Tensor]


def concat_tokens(
    looks: list[Look], weights: tuple[float, ...], encode: Callable[[Look], Tensor], _: Any
) -> Tensor:
    """Put the tokens of the photos side by side: (1, 32 * copies, 2048)."""
    return torch.cat(
        [
            encode(look).repeat(1, copies, 1)
            for look, copies in zip(looks, whole_copies(weights), strict=True)
        ],
        dim=1,
    )


def mean_tokens(
    looks: list[Look], weights: tuple[float, ...], encode: Callable[[Look], Tensor], _: Any
) -> Tensor:
    """Average the tokens of the photos, slot by slot: (1, 32, 2048)."""
    tokens = [encode(look) * weight for look, weight in zip(looks, weights, strict=True)]
    return torch.stack(tokens).sum(dim=0) / sum(weights)


def native_tokens(
    looks: list[Look], weights: tuple[float, ...], _: Callable[[Look], Tensor], encoder: Any
) -> Tensor:
    """Let one pass of the IDFormer look at all photos: (1, 32, 2048)."""
    condition = torch.stack([look.condition for look in looks], dim=1)  # (1, n, 1280)
    scales = zip(*(look.hidden_states for look in looks), strict=True)
    hidden_states = [torch.cat(states, dim=1) for states in scales]  # five (1, n * 577, 1024)
    return encoder(condition, hidden_states, weights if len(set(weights)) > 1 else None)


FUSIONS: dict[str, Fuse] = {
    "concat": concat_tokens,
    "mean": mean_tokens,
    "native": native_tokens,
}
"""Name -> function of the looks, their weights, the encoding of one look, and the IDFormer."""


def check_weights(weights: tuple[float, ...], count: int, fusion: str) -> tuple[float, ...]:
    """Return one weight per photo; no weights at all mean 1 for each.

    Raises:
        PulidError: Too many or too few, none above 0, or negative where photos cannot be taken away.
    """
    weights = weights or (1.0,) * count
    if len(weights) != count:
        raise PulidError(
            f"{count} photo(s) need {count} weight(s), but {len(weights)} were given. "
            "Give one for each photo, or none."
        )
    if not all(map(math.isfinite, weights)) or sum(weights) <= 0:
        raise PulidError(
            f"The photo weights should add up to more than 0, but they are {weights}. "
            "Give the photos that matter a weight of 1."
        )
    if fusion != "mean" and min(weights) < 0:
        raise PulidError(
            f"The fusion {fusion} counts photos and needs weights of 0 or more, but they are "
            f"{weights}. Choose the fusion mean, which can take a photo away, or weight 0."
        )
    return weights


def whole_copies(weights: tuple[float, ...]) -> list[int]:
    """Turn weights above 0 into the smallest whole numbers of about the same proportions.

    Each is rounded to a quarter of the largest, but never to nothing.
    """
    largest = max(weights)
    copies = [max(1, round(weight / largest * COPIES_OF_STRONGEST)) for weight in weights]
    divisor = math.gcd(*copies)
    return [number // divisor for number in copies]


def blend_tokens(first: Tensor, second: Tensor, ratio: float) -> Tensor:
    """Go from the tokens of one identity towards those of another, slot by slot.

    Args:
        first: (1, N, D), what ratio 0 gives.
        second: (1, M, D), what ratio 1 gives.
        ratio: Below 0 goes away from the second, above 1 away from the first.

    Returns:
        (1, N, D) at 0, (1, M, D) at 1, else as many tokens as the least common multiple of N and M:
        repeating an identity leaves every attention to it unchanged.
    """
    if ratio in (0, 1):
        return second if ratio else first
    count = math.lcm(first.shape[1], second.shape[1])
    first = first.repeat(1, count // first.shape[1], 1)
    second = second.repeat(1, count // second.shape[1], 1)
    return first + ratio * (second - first)
