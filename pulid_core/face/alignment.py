"""Key points -> the upright crop that the networks look at, and how well the points fit a face."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ReferenceImageError, importing
from ..images import Pixels

ALIGNED_SIZE_PX = 512

FFHQ_TEMPLATE_PX = np.array(
    [
        (192.98138, 239.94708),  # left eye, as seen
        (318.90277, 240.1936),  # right eye
        (256.63416, 314.01935),  # nose
        (201.26117, 371.41043),  # left corner of the mouth
        (313.08905, 371.15118),  # right corner of the mouth
    ]
)
"""Where the five key points go in a 512 px crop. facexlib utils/face_restoration_helper.py."""

ALIGNED_BORDER_RGB = (132, 133, 135)  # facexlib fills BGR (135, 133, 132)

REFERENCE_SIDE_PX = 1024
"""Long side that PuLID reduces photos to (pulid/utils.py resize_numpy_image_long). Photos up to it are
aligned exactly as there; larger ones keep more detail, and are reduced by area, not by skipping pixels."""

MIDDLE = (slice(150, 440), slice(130, 382))
"""Rows and columns of the aligned crop between brows, chin and cheeks."""


def align(pixels: Pixels, key_points: np.ndarray) -> Pixels:
    """Cut a face out in FFHQ position.

    Args:
        pixels: (H, W, 3) uint8.
        key_points: (5, 2), x then y, in the pixels of the photo.

    Returns:
        (512, 512, 3) uint8; what lies outside the photo is gray.

    Raises:
        ReferenceImageError: The key points coincide; no detector gives such for a face.
    """
    pixels, key_points = cut_out(pixels, key_points)
    size = (ALIGNED_SIZE_PX, ALIGNED_SIZE_PX)
    return import_cv2().warpAffine(pixels, _fit(key_points), size, borderValue=ALIGNED_BORDER_RGB)


def cut_out(
    pixels: Pixels, key_points: np.ndarray, crop_ratio: float = 1.0
) -> tuple[Pixels, np.ndarray]:
    """Reduce a large photo to what a crop needs of it, so that sampling it skips no pixels.

    Args:
        pixels: (H, W, 3) uint8.
        key_points: (5, 2), x then y.
        crop_ratio: Size of the face in the crop over that in `align`'s.

    Returns:
        The photo itself up to PuLID's limit, else the surroundings of the face, at about twice the
        size of the crop where they are larger; and the key points in it.
    """
    cv2, matrix = import_cv2(), _fit(key_points)
    scale = float(np.hypot(*matrix[:, 0])) * crop_ratio
    if max(pixels.shape) <= REFERENCE_SIDE_PX:
        return pixels, np.asarray(key_points)
    shrink = min(1.0, max(2 * scale, REFERENCE_SIDE_PX / max(pixels.shape)))
    corners = crop_to_photo(np.array(((0, 0), (1, 0), (0, 1), (1, 1))) * ALIGNED_SIZE_PX, matrix)
    size = np.array(pixels.shape[1::-1])
    start = np.clip(np.floor(corners.min(axis=0)) - 2, 0, size - 1).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 2, start + 1, size).astype(int)
    part = pixels[start[1] : stop[1], start[0] : stop[0]]
    new_size = np.maximum(1, np.round((stop - start) * shrink)).astype(int)
    small = (
        cv2.resize(part, new_size.tolist(), interpolation=cv2.INTER_AREA) if shrink < 1 else part
    )
    moved = (key_points - start + 0.5) * (new_size / (stop - start)) - 0.5  # pixel centres
    return small, moved.astype(np.float32)


def fit_error(key_points: np.ndarray) -> float:
    """Say how far the key points are from those of an upright face seen from the front.

    Returns:
        Root of the mean squared distance in pixels of the aligned crop: 3 to 20 for most faces,
        up to 30 for one turned far aside, more for points that a detector guessed.
    """
    try:
        matrix = _fit(key_points)
    except ReferenceImageError:
        return np.inf
    placed = np.asarray(key_points) @ matrix[:, :2].T + matrix[:, 2]
    return float(np.sqrt(((placed - FFHQ_TEMPLATE_PX) ** 2).sum(axis=1).mean()))


def roll_degrees(key_points: np.ndarray) -> float:
    """Angle of the eyes' and mouth's lines: 0 is upright, 90 lies on its left ear as seen."""
    left_eye, right_eye, _, left_mouth, right_mouth = np.asarray(key_points, np.float64)
    x, y = right_eye - left_eye + right_mouth - left_mouth
    return float(np.degrees(np.arctan2(y, x)))


def share_outside(key_points: np.ndarray, width: int, height: int) -> float:
    """Part of the face's middle that lies outside a photo of this size, 0 to 1."""
    rows, columns = np.mgrid[MIDDLE[0].start : MIDDLE[0].stop : 10, 130:383:10]
    points = crop_to_photo(np.stack((columns.ravel(), rows.ravel()), axis=1), _fit(key_points))
    return float(1 - ((points >= 0) & (points < (width, height))).all(axis=1).mean())


def crop_to_photo(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where points of the aligned crop lie in the photo: both (N, 2), x then y."""
    inverse = import_cv2().invertAffineTransform(matrix)
    return points @ inverse[:, :2].T + inverse[:, 2]


def _fit(key_points: np.ndarray) -> np.ndarray:
    """Photo -> aligned crop: turn, scale and shift, (2, 3)."""
    cv2 = import_cv2()
    matrix, _ = cv2.estimateAffinePartial2D(
        np.asarray(key_points, dtype=np.float64), FFHQ_TEMPLATE_PX, method=cv2.LMEDS
    )
    if matrix is None or not np.isfinite(matrix).all():
        raise ReferenceImageError(
            f"Five key points of a face were wanted, but the detector gave {np.asarray(key_points).tolist()}. "
            "Use another photo or another face model."
        )
    return matrix


def import_cv2() -> Any:
    """OpenCV, when it is needed."""
    with importing("opencv-python", "Aligning a face", "cv2"):
        import cv2
    return cv2
