"""How much the faces of a picture resemble a person, by the cosine of their ArcFace vectors.

The same ArcFace vector conditions the picture, so the number is for tuning weight and start_at, and
proves nothing to anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images import Photo
from .analyser import Face, FaceAnalyser

BEST_RGB = (40, 200, 80)
OTHER_RGB = (200, 200, 200)
LABEL_RGB = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the faces of one picture compare with the person."""

    faces: tuple[Face, ...]
    """Largest first."""
    cosines: tuple[float, ...]
    """One per face, in [-1, 1]: 1 is the same vector, 0 is a stranger."""

    @property
    def best_index(self) -> int | None:
        """The face that resembles the person most."""
        return int(np.argmax(self.cosines)) if self.cosines else None

    @property
    def best(self) -> float:
        """Its cosine; 0 without a face."""
        return max(self.cosines, default=0.0)


def mean_direction(embeddings: Tensor) -> Tensor:
    """One vector for a person on several photos: the mean of the directions.

    Args:
        embeddings: Raw ArcFace vectors, (photos, 512).

    Returns:
        (512,) float64, of length 1; zeros when the photos cancel out.
    """
    directions = _normalise(embeddings.double())
    return _normalise(directions.mean(dim=0))


def compare(photo: Photo, person: Tensor, analyser: FaceAnalyser) -> Comparison:
    """Compare every face of a picture with a person.

    Args:
        photo: (H, W, 3) uint8.
        person: From `mean_direction`, (512,).
        analyser: Finds and embeds the faces.
    """
    faces = analyser.find(photo)
    vectors = [torch.from_numpy(analyser.embed(photo, face)).double() for face in faces]
    return Comparison(
        tuple(faces), tuple(float((_normalise(vector) @ person).clamp(-1, 1)) for vector in vectors)
    )


def mean_similarity(comparisons: list[Comparison]) -> float:
    """Average the best face of every picture; a picture without a face counts as 0."""
    return float(np.mean([comparison.best for comparison in comparisons]))


def similarity_text(comparisons: list[Comparison]) -> str:
    """Tell what was found on the pictures, several lines for each."""
    lines = [f"Mean similarity {mean_similarity(comparisons):.3f} over {len(comparisons)} image(s)"]
    for index, comparison in enumerate(comparisons):
        result = f"best face {comparison.best:.3f}" if comparison.faces else "no face, counts as 0"
        lines.append(f"Image {index + 1} of {len(comparisons)}: {result}")
        for number, face in enumerate(comparison.faces):
            mark = "  <- best" if number == comparison.best_index else ""
            lines.append(f"  {number}: {comparison.cosines[number]:.3f}, {face}{mark}")
    return "\n".join(lines)


def annotate(photo: Photo, comparison: Comparison) -> Photo:
    """Draw box and cosine of every face; the best one in green."""
    picture = Image.fromarray(photo)
    draw = ImageDraw.Draw(picture)
    unit = max(1, max(picture.size) // 400)
    font = ImageFont.load_default(size=12 * unit)
    for number, face in enumerate(comparison.faces):
        color = BEST_RGB if number == comparison.best_index else OTHER_RGB
        left, top, right, bottom = face.box.tolist()
        draw.rectangle((left, top, right, bottom), outline=color, width=unit)
        label = f"{comparison.cosines[number]:.2f}"
        corner = (max(0, left), max(0, top - 15 * unit))
        draw.rectangle(draw.textbbox(corner, label, font=font), fill=color)
        draw.text(corner, label, fill=LABEL_RGB, font=font)
    return np.array(picture)  # a copy that may be written to


def _normalise(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector, dim=-1)
