"""What happened to each photo, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass

from .analyser import Face


@dataclass(frozen=True, eq=False)
class PhotoReport:
    """What was found on one photo, and which face was taken."""

    image_index: int
    """Position in the batch, from 0."""
    width: int
    """Of the photo as searched, in pixels: after its long side was limited."""
    height: int
    faces: tuple[Face, ...]
    """All faces in the chosen order."""
    order: str
    """One of faces.FACE_ORDERS."""
    chosen_index: int | None
    """Which of the faces was taken, or None when the photo was skipped."""
    weight: float = 1.0
    """How often the photo counts."""
    warnings: tuple[str, ...] = ()
    """Why the face may be too poor, or why the photo was skipped."""

    @property
    def chosen(self) -> Face | None:
        """The face that was taken."""
        return None if self.chosen_index is None else self.faces[self.chosen_index]


def report_text(reports: tuple[PhotoReport, ...]) -> str:
    """Tell what happened to the photos, several lines for each."""
    return "\n".join(line for report in reports for line in _photo_lines(report, len(reports)))


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
