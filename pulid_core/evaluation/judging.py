"""The figures of one picture, by judges that never see one another's numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import PulidError
from ..face.analyser import FaceAnalyser
from ..face.detection import Face
from ..face.similarity import mean_direction
from ..images import Photo, photo_from_file
from .people import Person
from .pose import degrees_between, rotation

LEAST_ANGLE = 1e-3
"""In radians; a held-out photo this near to the reference is the same photo."""


@dataclass(frozen=True)
class Judges:
    """Recognisers by name. The first one's detector finds the faces for all."""

    analysers: Mapping[str, FaceAnalyser]

    @classmethod
    def load(cls, folders: Sequence[Path]) -> Judges:
        """Load each judge from its folder of ONNX files, whose name it bears."""
        return cls({folder.name: FaceAnalyser(folder) for folder in folders})

    @cached_property
    def _finder(self) -> FaceAnalyser:
        return next(iter(self.analysers.values()))

    def face(self, photo: Photo) -> Face | None:
        """The largest face of a photo."""
        faces = self._finder.find(photo)
        return self._finder.settle(photo, faces[0]) if faces else None

    def directions(self, photo: Photo, face: Face) -> dict[str, Tensor]:
        """A face as each judge sees it, (512,) of length 1."""
        return {
            name: mean_direction(analyser.embed(photo, face).unsqueeze(0))
            for name, analyser in self.analysers.items()
        }


@dataclass(frozen=True, eq=False)
class Sitter:
    """A person as the judges know them."""

    reference: dict[str, Tensor]
    held_out: list[dict[str, Tensor]]
    pose: np.ndarray
    digest: str
    """Of the photos and the judges: figures hold as long as it stays."""

    @classmethod
    def of(cls, person: Person, judges: Judges) -> Sitter:
        """Look at a person's photos.

        Raises:
            PulidError: One shows no face.
        """
        digest = hashlib.sha256(repr(sorted(judges.analysers)).encode())
        seen = []
        for path in (person.reference, *person.held_out):
            digest.update(path.read_bytes())
            photo = photo_from_file(path)
            face = judges.face(photo)
            if face is None:
                raise PulidError(
                    f"A face to compare with was wanted, but {path} shows none. Take it away, or use "
                    "another photo."
                )
            seen.append((judges.directions(photo, face), rotation(face.key_points)))
        (reference, pose), *others = seen
        return cls(reference, [directions for directions, _ in others], pose, digest.hexdigest())


def figures_of(picture: Path, sitter: Sitter, judges: Judges) -> dict[str, Any]:
    """Judge one picture.

    Returns:
        `face`: whether there is one; with one also `pose`, the degrees by which the head is turned
        against the reference, and for each judge's name the cosines `reference` and, with held-out photos,
        `held_out` (their mean), and `copy_paste`.
    """
    photo = photo_from_file(picture)
    face = judges.face(photo)
    if face is None:
        return {"face": False}
    figures: dict[str, Any] = {"face": True}
    figures["pose"] = degrees_between(rotation(face.key_points), sitter.pose)
    for name, painted in judges.directions(photo, face).items():
        others = [directions[name] for directions in sitter.held_out]
        figures[name] = _compare(painted, sitter.reference[name], others)
    return figures


def _compare(painted: Tensor, reference: Tensor, held_out: Sequence[Tensor]) -> dict[str, float]:
    figures = {"reference": float(painted @ reference)}
    if held_out:
        figures["held_out"] = float(torch.stack([painted @ other for other in held_out]).mean())
        figures["copy_paste"] = float(
            np.mean([copy_paste(painted, reference, other) for other in held_out])
        )
    return figures


def copy_paste(painted: Tensor, reference: Tensor, held_out: Tensor) -> float:
    """How much nearer a picture is to the photo it was made from than to another of the same person.

    MultiID-Bench's figure, from the paper on WithAnyone: the difference of the angles over the angle between
    the two photos. 1 is a copy of the reference, 0 as near to both, -1 the other photo.
    """
    to_held_out, to_reference = _angle(painted, held_out), _angle(painted, reference)
    return (to_held_out - to_reference) / max(_angle(held_out, reference), LEAST_ANGLE)


def _angle(one: Tensor, other: Tensor) -> float:
    return float(torch.arccos((one @ other).clamp(-1, 1)))
