"""How much the faces of a picture resemble a person, by the cosine of their ArcFace vectors.

The same ArcFace vector conditions the picture, so the number is for tuning weight and start_at, and
proves nothing to anybody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..images import Photo, Pixels
from .analyser import FaceAnalyser
from .boxes import CHOSEN_RGB, OTHER_RGB, draw_boxes
from .detection import Face, Pause

STRANGERS_COSINE = 0.2
"""Below this two faces are two people: different ones have -0.14 to 0.36, the same one 0.4 or more."""


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


def likeness_to_others(embeddings: Tensor) -> list[float]:
    """How much each photo's face resembles that of the other photo which it resembles most.

    Args:
        embeddings: Raw ArcFace vectors, (photos, 512).

    Returns:
        Cosines in [-1, 1]; 1 for a photo that is alone.
    """
    directions = _normalise(embeddings.double())
    if len(directions) == 1:
        return [1.0]
    return (directions @ directions.T).fill_diagonal_(-2).max(dim=1).values.tolist()


def compare(
    photo: Photo, person: Tensor, analyser: FaceAnalyser, pause: Pause = lambda: None
) -> Comparison:
    """Compare every face of a picture with a person.

    Args:
        photo: The picture.
        person: From `mean_direction`, (512,).
        analyser: Finds and embeds the faces.
        pause: Called before every look at the picture; may raise to stop.
    """
    faces = [analyser.settle(photo, face, pause) for face in analyser.find(photo, pause)]
    vectors = [analyser.embed(photo, face).double() for face in faces]
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


def annotate(photo: Photo, comparison: Comparison) -> Pixels:
    """Draw box and cosine of every face; the best one in green."""
    colors = [OTHER_RGB] * len(comparison.faces)
    if comparison.best_index is not None:
        colors[comparison.best_index] = CHOSEN_RGB
    boxes = [face.box for face in comparison.faces]
    labels = [f"{cosine:.2f}" for cosine in comparison.cosines]
    return draw_boxes(photo.pixels, list(zip(boxes, labels, colors, strict=True)))


def _normalise(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector, dim=-1)
