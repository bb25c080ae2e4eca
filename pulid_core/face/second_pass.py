"""A square around one face of a picture, and where in it that face may be painted anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .detection import Face

FACE_REACH = 1.25
"""How far the mask is 1, as a part of the face's box: detectors leave out hairline and ears."""
FADE = 0.3
"""How much further it falls to 0, as a part of the same."""
BORDER_FADE = 0.08
"""Over what part of the square it falls to 0 where the square ends within the picture."""
SMALLEST_CONTEXT = 1.7  # times a face holds its mask: FACE_REACH * (1 + FADE) = 1.63


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """One face of a picture, enlarged."""

    picture: Tensor
    """(1, size, size, 3) in [0, 1]."""
    mask: Tensor
    """(1, size, size): 1 on the face, 0 beyond it and on every other face."""
    left: int
    """Of the square, in the picture's pixels."""
    top: int
    side: int


def crop_face(
    picture: Tensor, face: Face, others: Sequence[Face], size: int, context: float
) -> FaceCrop:
    """Cut out a face with its surroundings and enlarge it.

    Args:
        picture: (H, W, 3) in [0, 1].
        face: Whose middle the square is around, as far as the picture reaches.
        others: Faces that must stay as they are.
        size: Side of the result in pixels.
        context: Side of the square as a multiple of the face, SMALLEST_CONTEXT or more.
    """
    height, width = picture.shape[:2]
    left_edge, top_edge, right_edge, bottom_edge = face.box.tolist()
    longest = max(right_edge - left_edge, bottom_edge - top_edge)
    side = min(max(round(context * longest), 1), height, width)
    left, top = (
        min(max(round(float(middle) - side / 2), 0), whole - side)
        for middle, whole in zip(face.center, (width, height), strict=True)
    )
    square = picture[top : top + side, left : left + side].movedim(-1, 0).unsqueeze(0)
    square = F.interpolate(square, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    mask = _border_fade(size, (left, top, side), (width, height)) * _oval(
        face, size, (left, top, side)
    )
    for other in others:
        mask = mask * (1 - _oval(other, size, (left, top, side)))
    return FaceCrop(square.movedim(1, -1), mask.unsqueeze(0), left, top, side)


def _oval(face: Face, size: int, square: tuple[int, int, int]) -> Tensor:
    """A soft oval on one face, (size, size), for a square given as left, top, side."""
    left, top, side = square
    places = (torch.arange(size) + 0.5) * side / size
    (x, y), half = face.center.tolist(), (face.box[2:] - face.box[:2]).tolist()
    across = (places + left - x) / (FACE_REACH * half[0] / 2)
    down = (places + top - y) / (FACE_REACH * half[1] / 2)
    distance = (across.square().unsqueeze(0) + down.square().unsqueeze(1)).sqrt()
    return ((1 + FADE - distance) / FADE).clamp(0, 1)


def _border_fade(size: int, square: tuple[int, int, int], whole: tuple[int, int]) -> Tensor:
    """Fall to 0 at those sides of the square that are no sides of the picture (width, height)."""
    left, top, side = square
    rising = (torch.arange(size) / (BORDER_FADE * size)).clamp(0, 1)
    lines = []
    for start, length in ((left, whole[0]), (top, whole[1])):
        line = rising if start > 0 else torch.ones(size)
        lines.append(line * rising.flip(0) if start + side < length else line)
    return torch.outer(lines[1], lines[0])
