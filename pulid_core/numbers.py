"""Lists of numbers that users write, and float32 numbers."""

from __future__ import annotations

import math
import re
import struct


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read `1, 0.5; 2`: finite numbers with commas or semicolons between them; blank is none.

    Raises:
        ValueError: A piece that is no number, or not a finite one.
    """
    numbers = tuple(float(piece) for piece in re.split("[,;]", text) if piece.strip())
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text!r} holds a number that is not finite")
    return numbers


def as_float32(value: float) -> float:
    """Round as the sampler's sigmas are rounded, so that a step exactly at a limit is met."""
    return struct.unpack("f", struct.pack("f", value))[0]
