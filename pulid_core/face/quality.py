"""Why a face may be too poor to carry a likeness.

The limits were found with CenterFace and a trained recogniser on photos of people: each separates
pictures that keep at least about 0.8 of the cosine to the same person from those that fall to 0.5.
"""

from __future__ import annotations

import numpy as np

from ..images import Photo, Pixels
from .alignment import MIDDLE, fit_error, import_cv2, roll_degrees, share_outside
from .detection import Face

SMALL_FACE_PX = 80
"""Boxes narrower than this warn: they are enlarged even for ArcFace, whose 112 px hold about 80 px of
face."""

BLURRED_SHARPNESS = 0.02
"""`sharpness` below this warns. Sharp portraits have 0.08 to 0.3; this is reached by a Gaussian blur
of about a fiftieth of the face's width."""

OUTSIDE_SHARE = 0.25
"""More of the face's middle beyond the photo's edge warns."""
DARK_LUMA = 20
"""Mean brightness of the face's middle, of 255, below which its noise is louder than its features."""
CLIPPED_LUMA, CLIPPED_SHARE = 250, 0.5
"""More than this share of the face's middle at the upper end of the scale warns."""
WIDTH_OVER_HEIGHT = (0.65, 0.96)
"""Of the box of a face that is whole and not tilted: 0.74 to 0.85, and stretched to twice its width or
height 0.97 to 1.04 or 0.47 to 0.62."""
TILTED_DEGREES = 20
MISFIT_PX = 32
"""`fit_error` above this warns: the points were guessed."""
TURNED_DEGREES = 45


def face_warnings(photo: Photo, face: Face, crop: Pixels) -> tuple[str, ...]:
    """Say what may cost the likeness.

    Args:
        photo: The whole photo.
        face: As found in it.
        crop: As aligned, (512, 512, 3) uint8.

    Returns:
        One sentence for each reason; none for a good face.
    """
    warnings = []
    width = face.box[2] - face.box[0]
    if width < SMALL_FACE_PX:
        warnings.append(
            f"the face is only {width:.0f} px wide; below {SMALL_FACE_PX} px the likeness suffers."
        )
    if _reaches_outside(face.key_points, photo):
        warnings.append(
            "part of the face lies outside the photo; use one that shows all of it, from brow to "
            "chin."
        )
    elif _is_stretched(face):
        warnings.append("the face is stretched; use a photo in its own proportions.")
    return (*warnings, *_light_warnings(crop), *_shape_warnings(face.key_points))


def _reaches_outside(key_points: np.ndarray, photo: Photo) -> bool:
    size = (photo.width, photo.height)
    is_inside = ((key_points >= 0) & (key_points < size)).all()
    return not is_inside or share_outside(key_points, *size) >= OUTSIDE_SHARE


def _is_stretched(face: Face) -> bool:
    """By the box, since detectors place the points of a stretched face as if it were none."""
    width, height = face.box[2:] - face.box[:2]
    roll = abs(roll_degrees(face.key_points)) % 180
    if min(roll, 180 - roll) > TILTED_DEGREES and abs(roll - 90) > TILTED_DEGREES:
        return False
    lies = abs(roll - 90) <= TILTED_DEGREES
    narrowest, widest = WIDTH_OVER_HEIGHT
    return not narrowest <= (height / width if lies else width / height) <= widest


def _light_warnings(crop: Pixels) -> list[str]:
    luma = crop[MIDDLE].mean(axis=2)
    if luma.mean() < DARK_LUMA:
        return [
            f"the face is too dark (brightness {luma.mean():.0f} of 255); use a brighter photo."
        ]
    clipped = float((luma >= CLIPPED_LUMA).mean())
    if clipped > CLIPPED_SHARE:
        return [
            f"{clipped:.0%} of the face is overexposed to plain white; use a photo with softer light."
        ]
    sharp = sharpness(crop)
    if sharp < BLURRED_SHARPNESS:
        return [
            f"the face is blurred (sharpness {sharp:.3f}, a good photo has above 0.08); "
            "use a sharper photo."
        ]
    return []


def _shape_warnings(key_points: np.ndarray) -> list[str]:
    warnings = []
    roll = roll_degrees(key_points)
    if abs(roll) > TURNED_DEGREES:
        warnings.append(
            f"the face is turned by {abs(roll):.0f}° in the photo; it was set upright. If the crop "
            "looks wrong, turn the photo."
        )
    if fit_error(key_points) > MISFIT_PX:
        warnings.append(
            "eyes, nose and mouth were not found where a face has them; look at the crop, and use "
            "a photo from the front."
        )
    return warnings


def sharpness(crop: Pixels) -> float:
    """Measure the share of fine detail in a face, at the size that ArcFace looks at.

    Returns:
        Variance of the Laplacian over the variance of the brightness, both of the middle of the
        face at 112 px: near 0 for a blurred face, 0.08 to 0.3 for a sharp one.
    """
    cv2 = import_cv2()
    small = cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA).astype(np.float32)
    gray = small.mean(axis=2)
    middle = (slice(22, -22), slice(22, -22))
    contrast = float(gray[middle].var())
    return float(cv2.Laplacian(gray, cv2.CV_32F)[middle].var()) / max(contrast, 1.0)
