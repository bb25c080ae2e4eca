"""Photo -> portrait: the chosen face of every photo, before any network of PuLID looks at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..encoder.fusion import check_weights
from ..errors import FaceIndexError, NoFaceError, PulidError
from ..images import Photo, Pixels
from .alignment import align
from .analyser import FaceAnalyser
from .choice import SAME_PERSON, choose_face, common_person
from .detection import Face
from .quality import face_warnings
from .report import PhotoReport, report_text, small_picture
from .similarity import STRANGERS_COSINE, likeness_to_others


class Step(Protocol):
    """What long work calls many times a second; it may raise to stop."""

    def __call__(self, steps: int = 1, /) -> object:
        """Go on by so many steps; 0 is a sign of life within one."""
        ...


def go_on(steps: int = 1, /) -> None:
    """The step that does nothing."""


@dataclass(frozen=True)
class EncodeSettings:
    """Which face of each photo, and how several photos become one person."""

    face_order: str = "largest"
    """One of choice.FACE_ORDERS."""
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

    photo: Photo
    face: Face
    embedding: Tensor
    """Raw ArcFace vector, (512,)."""
    weight: float

    @property
    def crop(self) -> Pixels:
        """Aligned, (512, 512, 3) uint8; cut out when asked, which for a recalled photo is never."""
        return align(self.photo.pixels, self.face.key_points)

    @property
    def key(self) -> str:
        """Names photo and face, for what is computed from them."""
        return self.photo.key + self.face.key_points.tobytes().hex()


def choose_portraits(
    photos: list[Photo],
    analyser: FaceAnalyser,
    settings: EncodeSettings,
    on_step: Step = go_on,
) -> tuple[list[Portrait], tuple[PhotoReport, ...]]:
    """Find the person on every photo.

    Args:
        photos: At least one.
        analyser: Finds the faces.
        settings: Which face of each photo, and which photos count.
        on_step: Called before each photo, and with 0 before each look at it; may raise to stop.

    Returns:
        The portraits found, and one report per photo.

    Raises:
        NoFaceError: A photo shows no face, and such photos are not skipped.
        FaceIndexError: A photo shows fewer faces than the index asks for, likewise.
        PulidError: The weights do not fit the photos, or no photo is left.
    """
    weights = check_weights(settings.photo_weights, len(photos), settings.fusion)
    person = None
    if settings.face_order == SAME_PERSON:
        counted = [photo for photo, weight in zip(photos, weights, strict=True) if weight]
        person = common_person(counted, analyser, lambda: on_step(0))
    portraits, reports = dict[int, Portrait](), list[PhotoReport]()
    for photo, weight in zip(photos, weights, strict=True):
        on_step()
        report = _empty_report(photo, analyser, settings, weight)
        portrait, report = _portrait_or_reason(photo, report, analyser, settings, person, on_step)
        portraits |= {len(reports): portrait} if portrait else {}
        reports.append(report)
    if not portraits:
        raise PulidError(
            f"At least one photo with the wanted face is needed, but all {len(photos)} were "
            f"skipped. Use other photos.\n{report_text(tuple(reports))}"
        )
    _warn_of_strangers(portraits, reports)
    return list(portraits.values()), tuple(reports)


def _empty_report(
    photo: Photo, analyser: FaceAnalyser, settings: EncodeSettings, weight: float
) -> PhotoReport:
    picture = analyser.recall.get(("picture", photo.key), lambda: small_picture(photo.pixels))
    size = (photo.width, photo.height)
    return PhotoReport(photo.index, *size, (), settings.face_order, None, weight, (), picture)


def _portrait_or_reason(
    photo: Photo,
    report: PhotoReport,
    analyser: FaceAnalyser,
    settings: EncodeSettings,
    person: Tensor | None,
    on_step: Step,
) -> tuple[Portrait | None, PhotoReport]:
    """The portrait; or why this photo does not count, where the settings allow that."""
    if report.weight == 0:
        return None, replace(report, warnings=("its weight is 0",))
    try:
        return _choose_portrait(photo, report, analyser, settings, person, on_step)
    except (NoFaceError, FaceIndexError) as error:
        if not settings.skip_missing:
            raise
        return None, replace(report, warnings=(str(error),))


def _choose_portrait(
    photo: Photo,
    report: PhotoReport,
    analyser: FaceAnalyser,
    settings: EncodeSettings,
    person: Tensor | None,
    on_step: Step,
) -> tuple[Portrait, PhotoReport]:
    def choose() -> tuple[list[Face], Face, Tensor, tuple[str, ...]]:
        order, index = settings.face_order, settings.face_index
        faces, face = choose_face(photo, analyser, order, index, person, lambda: on_step(0))
        warnings = face_warnings(photo, face, align(photo.pixels, face.key_points))
        return faces, face, analyser.embed(photo, face), warnings

    whose = None if person is None else person.numpy().tobytes()
    key = ("portrait", photo.key, settings.face_order, settings.face_index, whose)
    faces, face, embedding, warnings = analyser.recall.get(key, choose)
    return Portrait(photo, face, embedding, report.weight), replace(
        report, faces=tuple(faces), chosen_index=settings.face_index, warnings=warnings
    )


def _warn_of_strangers(portraits: dict[int, Portrait], reports: list[PhotoReport]) -> None:
    """Say of each photo whose face is unlike all others that it may be another person."""
    embeddings = torch.stack([portrait.embedding for portrait in portraits.values()])
    for place, likeness in zip(portraits, likeness_to_others(embeddings), strict=True):
        if likeness < STRANGERS_COSINE:
            warning = (
                "the face resembles that of no other photo (highest cosine "
                f"{likeness:.2f}) and may be another person; choose it by face_index, or set "
                f"face_order to {SAME_PERSON}."
            )
            report = reports[place]
            reports[place] = replace(report, warnings=(*report.warnings, warning))
