"""Lists of numbers that users write."""

from __future__ import annotations

import math
import re


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read `1, 0.5; 2`: finite numbers with commas or semicolons between them; blank is none.

    Raises:
        ValueError: A piece that is no number, or not a finite one.
    """
    numbers = tuple(float(piece) for piece in re.split("[,;]", text) if piece.strip())
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text!r} holds a number that is not finite")
    return numbers
