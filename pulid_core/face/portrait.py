"""Photo -> portrait: the chosen face of every photo, before any network of PuLID looks at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..encoder.fusion import check_weights
from ..errors import FaceIndexError, NoFaceError, PulidError
from ..images import Photo, content_key
from .analyser import Face, FaceAnalyser, align, choose_face, face_warnings
from .report import PhotoReport, report_text

Step = Callable[[], None]


@dataclass(frozen=True)
class EncodeSettings:
    """Which face of each photo, and how several photos become one person."""

    face_order: str = "largest"
    """One of faces.FACE_ORDERS."""
    face_index: int = 0
    """Place of the face in that order, from 0."""
    fusion: str = "concat"
    """One of fusion.FUSIONS."""
    photo_weights: tuple[float, ...] = ()
    """How often each photo counts; empty is once each."""
    skip_missing: bool = False
    """Leave a photo out that lacks the face, instead of raising."""


DEFAULT_SETTINGS = EncodeSettings()


@dataclass(frozen=True, eq=False)
class Portrait:
    """The chosen face of one photo."""

    face: Face
    crop: Photo
    """Aligned, (512, 512, 3) uint8."""
    embedding: Tensor
    """Raw ArcFace vector, (512,)."""
    key: str
    """Names photo and face, for what is computed from them."""
    weight: float


def choose_portraits(
    photos: list[Photo],
    analyser: FaceAnalyser,
    settings: EncodeSettings,
    on_step: Step = lambda: None,
) -> tuple[list[Portrait], tuple[PhotoReport, ...]]:
    """Find the person on every photo.

    Args:
        photos: At least one.
        analyser: Finds the faces.
        settings: Which face of each photo, and which photos count.
        on_step: Called before each photo; may raise to stop.

    Returns:
        The portraits found, and one report per photo.

    Raises:
        NoFaceError: A photo shows no face, and such photos are not skipped.
        FaceIndexError: A photo shows fewer faces than the index asks for, likewise.
        PulidError: The weights do not fit the photos, or no photo is left.
    """
    weights = check_weights(settings.photo_weights, len(photos), settings.fusion)
    portraits, reports = [], []
    for index, weight in enumerate(weights):
        on_step()
        try:
            portrait, report = _choose_portrait(photos, index, weight, analyser, settings)
        except (NoFaceError, FaceIndexError) as error:
            if not settings.skip_missing:
                raise
            portrait, report = None, _skipped(photos, index, weight, settings, str(error))
        reports.append(report)
        if portrait:
            portraits.append(portrait)
    if not portraits:
        raise PulidError(
            f"At least one photo with the wanted face is needed, but all {len(photos)} were "
            f"skipped. Use other photos.\n{report_text(tuple(reports))}"
        )
    return portraits, tuple(reports)


def _choose_portrait(
    photos: list[Photo], index: int, weight: float, analyser: FaceAnalyser, settings: EncodeSettings
) -> tuple[Portrait | None, PhotoReport]:
    if weight == 0:
        return None, _skipped(photos, index, weight, settings, "its weight is 0")
    photo = photos[index]
    faces, face = choose_face(
        analyser, photo, settings.face_order, settings.face_index, index, len(photos)
    )
    crop = align(photo, face.key_points)
    embedding = torch.from_numpy(analyser.embed(photo, face)).float()
    key = content_key(photo) + face.key_points.tobytes().hex()
    report = PhotoReport(
        index,
        photo.shape[1],
        photo.shape[0],
        tuple(faces),
        settings.face_order,
        settings.face_index,
        weight,
        face_warnings(face, crop),
    )
    return Portrait(face, crop, embedding, key, weight), report


def _skipped(
    photos: list[Photo], index: int, weight: float, settings: EncodeSettings, reason: str
) -> PhotoReport:
    height, width = photos[index].shape[:2]
    return PhotoReport(index, width, height, (), settings.face_order, None, weight, (reason,))
