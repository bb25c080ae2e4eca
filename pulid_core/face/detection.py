"""Where the faces of a photo are: looked for from near and far, then looked at once more.

A detector sees 640 pixels. It misses faces that are tiny or huge there, places the key points of huge
ones badly, and of faces that lie on their side at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..images import Pixels
from .alignment import REFERENCE_SIDE_PX, fit_error, import_cv2

DETECTION_SIZE_PX = 640
"""What SCRFD sees: a photo's long side."""

BORDERS = (1, 2)
"""The photo is also looked at with a border of so many of its long sides, for faces that fill it."""

GOOD_SIZE_PX = (60, 213)
"""Width of a face as the detector saw it that needs no second look: below, a larger photo has more to
show; above a third of what it sees, key points get worse."""
SECOND_LOOK_WIDTH = 3
"""The second look is at a square this many times the size of the face's box."""
GOOD_FIT_PX = 16
"""`fit_error` up to which key points are believed at once. Of eight faces turned by a quarter and by
half, the right turn had 3 to 30, every wrong one more than the right one and at least 21."""

SAME_FACE = 0.4
"""Overlap of two boxes above which they are one face, as in SCRFD's own merging."""
FOUND_AGAIN = 0.25
"""The same for a second look, which moves the box of a turned face or a close-up."""

SMALLEST_WINDOW_PX = 1280
"""Windows of a photo without a face are halved down to this: a face of 80 px has 40 px there."""

Detect = Callable[[Pixels], tuple[np.ndarray, np.ndarray]]
"""RGB pixels -> boxes with scores (n, 5), and key points (n, 5, 2)."""
Pause = Callable[[], object]
"""Called before every look; may raise to stop."""
Window = tuple[int, int, int, int]
"""Left, top, right, bottom in the photo's pixels; may reach beyond it."""


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face, in the pixels of its photo."""

    box: np.ndarray
    """Left, top, right, bottom: (4,) float."""
    key_points: np.ndarray
    """Left eye, right eye, nose, left and right corner of the mouth: (5, 2) float, x then y."""
    score: float
    """Confidence of the detector, 0.5 to 1."""
    seen_px: float = field(default=0.0, repr=False)
    """How wide the face was in what the detector saw."""

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = self.box
        return float((right - left) * (bottom - top))

    @property
    def center(self) -> np.ndarray:
        """Middle of the box: (2,), x then y."""
        return (self.box[:2] + self.box[2:]) / 2

    def __str__(self) -> str:
        left, top, right, bottom = self.box.round().astype(int)
        size = f"{right - left} x {bottom - top} px"
        return f"box {left},{top} to {right},{bottom} ({size}), score {self.score:.2f}"


def search(pixels: Pixels, detect: Detect, pause: Pause = lambda: None) -> list[Face]:
    """Find all faces of a photo, largest first.

    The whole photo is looked at, then with borders around it. Where that shows nothing, it is
    turned by a quarter, half and three quarters, where only key points that fit count, and at last
    cut into overlapping windows.
    """
    faces: list[Face] = []
    for border in (0, *BORDERS):
        pause()
        _merge(faces, look(pixels, _framed(pixels, border), detect))
    for quarters in (1, 2, 3):
        if not faces:
            pause()
            turned = look(pixels, _framed(pixels, 0), detect, quarters)
            _merge(faces, [face for face in turned if fit_error(face.key_points) <= GOOD_FIT_PX])
    for windows in _finer_windows(pixels):
        if faces:
            break
        for window in windows:
            pause()
            _merge(faces, look(pixels, window, detect))
    return sorted(faces, key=lambda face: face.area, reverse=True)


def look_again(pixels: Pixels, face: Face, detect: Detect, pause: Pause = lambda: None) -> Face:
    """Look at the surroundings of a face alone, unless the first look was good.

    Key points that fit no upright face are looked for in all four turns; those that fit best count.

    Returns:
        The face with a better box and better key points, or as it was.
    """
    smallest, largest = GOOD_SIZE_PX
    if smallest <= face.seen_px <= largest and fit_error(face.key_points) <= GOOD_FIT_PX:
        return face
    half = SECOND_LOOK_WIDTH / 2 * max(face.box[2:] - face.box[:2])
    left, top = (math.floor(side) for side in face.center - half)
    right, bottom = (math.ceil(side) for side in face.center + half)
    window = (left, top, right, bottom)
    candidates = []
    for quarters in range(4):
        pause()
        seen = look(pixels, window, detect, quarters)
        candidates += sorted(
            (other for other in seen if _is_same(face, other)),
            key=lambda other: overlap(face, other),
        )[-1:]
        if quarters == 0 and candidates and fit_error(candidates[0].key_points) <= GOOD_FIT_PX:
            break
    return min(candidates, key=lambda again: fit_error(again.key_points), default=face)


def look(pixels: Pixels, window: Window, detect: Detect, quarters: int = 0) -> list[Face]:
    """Detect faces in one window of a photo.

    Args:
        pixels: (H, W, 3) uint8.
        window: Where to look; what lies outside the photo is black.
        detect: The detector.
        quarters: By how many quarters to the left the window is turned before.

    Returns:
        The faces, in the pixels of the photo.
    """
    canvas, shift, scale = _cut(pixels, window)
    turned = np.ascontiguousarray(np.rot90(canvas, quarters))
    boxes, key_points = detect(turned)
    sight = DETECTION_SIZE_PX / max(canvas.shape[:2])
    faces = []
    for box, points in zip(boxes, key_points, strict=True):
        corners = _turn_back(box[:4].reshape(2, 2), quarters, canvas) * scale + shift
        placed = _turn_back(points, quarters, canvas) * scale + shift
        sides = np.concatenate((corners.min(axis=0), corners.max(axis=0)))
        # As the detector gave them: an untouched photo keeps InsightFace's own numbers.
        sides, placed = sides.astype(np.float32), placed.astype(np.float32)
        faces.append(Face(sides, placed, float(box[4]), float(box[2] - box[0]) * sight))
    return faces


def overlap(one: Face, other: Face) -> float:
    """Intersection of two boxes over their union."""
    start, stop = np.maximum(one.box[:2], other.box[:2]), np.minimum(one.box[2:], other.box[2:])
    common = float(np.prod(np.clip(stop - start, 0, None)))
    return common / max(one.area + other.area - common, 1e-9)


def _is_same(face: Face, again: Face) -> bool:
    """Whether a second look found the face; a doubtful box may have been drawn too large around it."""
    is_within = ((face.box[:2] < again.center) & (again.center < face.box[2:])).all()
    return overlap(face, again) > FOUND_AGAIN or bool(is_within and again.score > face.score)


def _merge(faces: list[Face], found: list[Face]) -> None:
    """Add those that are not among the faces yet."""
    for face in found:
        if all(overlap(face, known) <= SAME_FACE for known in faces):
            faces.append(face)


def _cut(pixels: Pixels, window: Window) -> tuple[Pixels, np.ndarray, np.ndarray]:
    """Window -> what the detector sees, where its corner lies in the photo, and the photo's pixels per pixel.

    A window larger than PuLID's own limit for photos is reduced to it.
    """
    left, top, right, bottom = window
    height, width = pixels.shape[:2]
    inside = pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    shrink = min(1.0, REFERENCE_SIDE_PX / max(right - left, bottom - top))
    size = [max(1, round(side * shrink)) for side in inside.shape[1::-1]]
    scale = np.array(inside.shape[1::-1]) / size
    if shrink < 1 and inside.size:
        cv2 = import_cv2()
        inside = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    if (left, top, right, bottom) == (0, 0, width, height):
        return inside, np.zeros(2), scale
    column, row = (round(max(0, -edge) * shrink) for edge in (left, top))
    shape = (
        max(row + inside.shape[0], round((bottom - top) * shrink)),
        max(column + inside.shape[1], round((right - left) * shrink)),
    )
    canvas = np.zeros((*shape, 3), np.uint8)
    canvas[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return canvas, np.array((max(0, left), max(0, top))) - np.array((column, row)) * scale, scale


def _turn_back(points: np.ndarray, quarters: int, canvas: Pixels) -> np.ndarray:
    """Points of the turned canvas, (n, 2), x then y, in the canvas as it was."""
    height, width = canvas.shape[:2]
    x, y = points[:, 0], points[:, 1]
    columns = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
    return np.stack(columns[quarters], axis=1)


def _framed(pixels: Pixels, border: int) -> Window:
    """The photo with a border of so many long sides."""
    height, width = pixels.shape[:2]
    edge = border * max(height, width)
    return (-edge, -edge, width + edge, height + edge)


def _finer_windows(pixels: Pixels) -> Iterator[list[Window]]:
    """Squares that overlap by a quarter: of half the long side, a quarter and so on."""
    height, width = pixels.shape[:2]
    side = max(height, width) // 2
    while True:
        yield [
            (left, top, left + side, top + side)
            for top in _starts(height, side)
            for left in _starts(width, side)
        ]
        side //= 2
        if side < SMALLEST_WINDOW_PX:
            return


def _starts(length: int, side: int) -> list[int]:
    """Evenly spread starts of windows, the last one at the end."""
    count = max(1, math.ceil((length - side) / (side * 0.75)) + 1)
    last = max(0, length - side)
    return [round(last * number / max(1, count - 1)) for number in range(count)]
