"""How an identity acts beyond one weight: over time, blocks and places, and on the negative pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import PulidError
from ..numbers import parse_numbers
from .schedule import CONSTANT, Points
from .spatial_mask import ActsOn

NegativeSees = Literal["nobody", "same person", "nothing"]
NEGATIVE_CHOICES: tuple[NegativeSees, ...] = ("nobody", "same person", "nothing")


@dataclass(frozen=True)
class InjectionOptions:
    """What PulidInjectionOptions decides; the defaults are PuLID's own way."""

    schedule: Points = CONSTANT
    """Factors on the weight, over the progress from start_at to end_at."""
    double_weights: tuple[float, ...] = (1.0,)
    """Factors for the double blocks: one for all, or one per injected block."""
    single_weights: tuple[float, ...] = (1.0,)
    """Factors for the single blocks."""
    negative_sees: NegativeSees = "nobody"
    """What the negative pass of true CFG sees."""
    acts_on: ActsOn = "whole picture"
    """Where in the picture; `spatial_mask` tells how."""
    floor: float = 0.0
    """How strongly it acts beside the face, in [0, 1]."""

    def block_weights(self, double_blocks: int, single_blocks: int) -> tuple[float, ...]:
        """Give one factor per cross attention, in injection order.

        Args:
            double_blocks: Number of double blocks that take the identity.
            single_blocks: Number of single blocks that take it.

        Raises:
            PulidError: A list that is neither one factor nor one per block.
        """
        return (
            *_spread(self.double_weights, double_blocks, "double_blocks"),
            *_spread(self.single_weights, single_blocks, "single_blocks"),
        )


def parse_factors(text: str, name: str) -> tuple[float, ...]:
    """Read `1` or `1, 0.5, ...` as factors.

    Raises:
        PulidError: No number, or one that cannot be read or is not finite.
    """
    try:
        factors = parse_numbers(text)
    except ValueError:
        factors = ()
    if not factors:
        raise PulidError(
            f"{name} needs one number, or one per block, separated by commas, but got {text!r}. "
            "Write 1 to leave these blocks as they are."
        )
    return factors


def _spread(factors: tuple[float, ...], count: int, name: str) -> tuple[float, ...]:
    if len(factors) == 1:
        return factors * count
    if len(factors) != count:
        raise PulidError(
            f"{name} needs one number, or one for each of the {count} blocks that take the "
            f"identity, but got {len(factors)} numbers. Add or remove some."
        )
    return factors
