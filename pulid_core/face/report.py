"""What happened to each photo, as data, as text and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..images import Pixels
from .alignment import import_cv2
from .boxes import CHOSEN_RGB, OTHER_RGB, draw_boxes
from .detection import Face

PICTURE_HEIGHT_PX = 672
"""Of `picture_of_choice`: two crops of 336 px above each other."""
PICTURE_WIDTH_PX = 1344


@dataclass(frozen=True, eq=False)
class PhotoReport:
    """What was found on one photo, and which face was taken."""

    image_index: int
    """Position in the batch, from 0."""
    width: int
    """Of the photo, in pixels."""
    height: int
    faces: tuple[Face, ...]
    """All faces in the chosen order."""
    order: str
    """One of choice.FACE_ORDERS."""
    chosen_index: int | None
    """Which of the faces was taken, or None when the photo was skipped."""
    weight: float = 1.0
    """How often the photo counts."""
    warnings: tuple[str, ...] = ()
    """Why the face may be too poor, or why the photo was skipped."""
    picture: Pixels = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8), repr=False)
    """The photo, small."""

    @property
    def chosen(self) -> Face | None:
        """The face that was taken."""
        return None if self.chosen_index is None else self.faces[self.chosen_index]


def report_text(reports: tuple[PhotoReport, ...]) -> str:
    """Tell what happened to the photos, several lines for each."""
    return "\n".join(line for report in reports for line in _photo_lines(report, len(reports)))


def warning_text(reports: tuple[PhotoReport, ...]) -> str:
    """Only what may cost the likeness, a line for each; empty for good photos."""
    return "\n".join(
        f"Image {report.image_index + 1} of {len(reports)}: {warning}"
        for report in reports
        for warning in report.warnings
    )


def summary_text(reports: tuple[PhotoReport, ...]) -> str:
    """Say of each photo in one line which face was taken, and what may cost the likeness."""
    lines = []
    for report in reports:
        if report.chosen is None:
            found = "left out"
        else:
            width, height = (report.chosen.box[2:] - report.chosen.box[:2]).round().astype(int)
            found = f"face {report.chosen_index} of {len(report.faces)}, {width} x {height} px"
        head = f"Image {report.image_index + 1}: {found}"
        lines += [head, *(f"Warning: {warning}" for warning in report.warnings)]
    return "\n".join(lines)


def small_picture(pixels: Pixels) -> Pixels:
    """Reduce a photo to what a node shows."""
    height, width = pixels.shape[:2]
    scale = min(1.0, PICTURE_HEIGHT_PX / height, PICTURE_WIDTH_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cv2 = import_cv2()
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def picture_of_choice(report: PhotoReport, crop: Pixels | None) -> Pixels:
    """Show which face was taken, and what the encoder saw of it.

    Args:
        report: Of one photo.
        crop: As in Identity.crops, (336, 672, 3) uint8; None for a skipped photo.

    Returns:
        The photo with numbered boxes, and right of it the crops, (672, W, 3) uint8. The number at a
        box is the `face_index` that takes this face in the chosen order.
    """
    height, width = report.picture.shape[:2]
    scale = min(PICTURE_HEIGHT_PX / height, PICTURE_WIDTH_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    photo = np.array(Image.fromarray(report.picture).resize(size))
    labels = [
        (face.box * (size[0] / report.width), str(number), _color(number == report.chosen_index))
        for number, face in enumerate(report.faces)
    ]
    photo = draw_boxes(photo, labels[::-1])  # the first on top
    canvas = np.full((PICTURE_HEIGHT_PX, size[0] + PICTURE_HEIGHT_PX // 2, 3), 24, np.uint8)
    canvas[: size[1], : size[0]] = photo
    if crop is not None:
        side = PICTURE_HEIGHT_PX // 2
        both = np.concatenate(np.split(crop, 2, axis=1))  # above each other
        canvas[:, size[0] :] = np.array(Image.fromarray(both).resize((side, 2 * side)))
    return canvas


def _color(is_chosen: bool) -> tuple[int, int, int]:
    return CHOSEN_RGB if is_chosen else OTHER_RGB


def _photo_lines(report: PhotoReport, count: int) -> list[str]:
    head = f"Image {report.image_index + 1} of {count}, {report.width} x {report.height} px: "
    if report.chosen_index is None:
        return [head + "skipped", *(f"  {reason}" for reason in report.warnings)]
    faces = "1 face" if len(report.faces) == 1 else f"{len(report.faces)} faces"
    weight = "" if report.weight == 1 else f", weight {report.weight:g}"
    lines = [f"{head}{faces}, took {report.chosen_index} in the order {report.order}{weight}"]
    for index, face in enumerate(report.faces):
        mark = "  <- taken" if index == report.chosen_index else ""
        lines.append(f"  {index}: {face}{mark}")
    return lines + [f"  Warning: {warning}" for warning in report.warnings]
