"""Which of the faces of a photo is the person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import FaceIndexError, NoFaceError
from ..images import Photo
from .analyser import FaceAnalyser
from .detection import Face, Pause

SortKey = Callable[[Face, np.ndarray], float]

PLACE_ORDERS: dict[str, SortKey] = {
    "largest": lambda face, _: -face.area,
    "smallest": lambda face, _: face.area,
    "center": lambda face, middle: float(np.linalg.norm(face.center - middle)),
    "left-to-right": lambda face, _: float(face.center[0]),
    "top-to-bottom": lambda face, _: float(face.center[1]),
}
"""Name -> what the faces of a photo are sorted by, given the face and the photo's middle (x, y)."""

SAME_PERSON = "same-person"
"""The order by likeness to whoever is on all photos, the most alike first."""
FACE_ORDERS = (*PLACE_ORDERS, SAME_PERSON)

COMPARED_FACES = 16
"""Of a crowd only so many, the largest, are compared with the other photos."""


def sort_faces(
    photo: Photo, analyser: FaceAnalyser, order: str, person: Tensor | None, pause: Pause
) -> list[Face]:
    """Find the faces of a photo and bring them into one of FACE_ORDERS; equal ones keep their order.

    Args:
        photo: The photo.
        analyser: Finds the faces.
        order: One of FACE_ORDERS.
        person: For SAME_PERSON, from `common_person`; without, the largest is first.
        pause: Called before every look; may raise to stop.
    """
    faces = analyser.find(photo, pause)
    if order != SAME_PERSON:
        middle = np.array((photo.width / 2, photo.height / 2))
        return sorted(faces, key=lambda face: PLACE_ORDERS[order](face, middle))
    if person is None:
        return faces
    near, rest = faces[:COMPARED_FACES], faces[COMPARED_FACES:]
    likeness = _directions(photo, near, analyser, pause) @ person
    return [near[place] for place in likeness.argsort(descending=True, stable=True).tolist()] + rest


def choose_face(
    photo: Photo,
    analyser: FaceAnalyser,
    order: str = "largest",
    index: int = 0,
    person: Tensor | None = None,
    pause: Pause = lambda: None,
) -> tuple[list[Face], Face]:
    """Find the faces of a photo and take one, looked at once more.

    Args:
        photo: The photo.
        analyser: Finds the faces.
        order: One of FACE_ORDERS.
        index: Place of the wanted face in that order, from 0.
        person: As in `sort_faces`.
        pause: Called before every look; may raise to stop.

    Returns:
        All faces in that order, and the chosen one, which is among them.

    Raises:
        NoFaceError: There is none; the text says why, as far as that can be found out.
        FaceIndexError: There are fewer; the text lists them.
    """
    faces = sort_faces(photo, analyser, order, person, pause)
    if not faces:
        raise NoFaceError(photo.index, photo.count, _why_none(photo))
    if not 0 <= index < len(faces):
        raise FaceIndexError(photo.index, photo.count, index, tuple(map(str, faces)))
    face = analyser.settle(photo, faces[index], pause)
    return [*faces[:index], face, *faces[index + 1 :]], face


def common_person(photos: list[Photo], analyser: FaceAnalyser, pause: Pause) -> Tensor | None:
    """Find who is on all photos, by ArcFace.

    Every face is tried as the person; the one counts that the best faces of the other photos resemble
    most in sum.

    Returns:
        Mean direction of that person's faces, (512,); None when fewer than two photos show a face.
    """
    groups = [
        _directions(photo, faces[:COMPARED_FACES], analyser, pause)
        for photo in photos
        if (faces := analyser.find(photo, pause))
    ]
    if len(groups) < 2:
        return None
    candidates = torch.cat(groups)
    cosines = torch.stack([(candidates @ group.T).max(dim=1).values for group in groups])
    person = candidates[int(cosines.sum(dim=0).argmax())]
    faces = torch.stack([group[int((group @ person).argmax())] for group in groups])
    return torch.nn.functional.normalize(faces.mean(dim=0), dim=0)


def _directions(photo: Photo, faces: list[Face], analyser: FaceAnalyser, pause: Pause) -> Tensor:
    vectors = [analyser.embed(photo, analyser.settle(photo, face, pause)) for face in faces]
    return torch.nn.functional.normalize(torch.stack(vectors).double(), dim=1)


def _why_none(photo: Photo) -> str:
    if photo.pixels.min() == photo.pixels.max():
        return (
            "the picture is one plain colour. Look at the node that made it; the face should be at "
            "least about 100 px wide."
        )
    return (
        "the detector sees none, nor with a border around the photo, turned, or in parts of "
        "it. Use a photo in which the face is unobstructed and at least about 100 px wide, or "
        "remove that image."
    )
