"""Image layouts and ranges, named for what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .errors import ReferenceImageError

MAX_PHOTO_SIDE_PX = 1024  # PuLID pulid/utils.py resize_numpy_image_long, called before detection
MIN_PHOTO_SIDE_PX = 32

_UNREADABLE = (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is damaged, depending on format and place."""

Photo = np.ndarray
"""One RGB picture, (H, W, 3) uint8."""


def bhwc_to_bchw(image: Tensor) -> Tensor:
    """Move channels second: (B, H, W, C) -> (B, C, H, W)."""
    return image.movedim(-1, 1)


def bchw_to_bhwc(image: Tensor) -> Tensor:
    """Move channels last: (B, C, H, W) -> (B, H, W, C)."""
    return image.movedim(1, -1)


def photo_to_bchw(photo: Photo) -> Tensor:
    """Turn one photo into float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(photo).permute(2, 0, 1).unsqueeze(0).float() / 255


def content_key(photo: Photo) -> str:
    """Name a photo by its size and pixels: equal photos have equal keys."""
    pixels = np.ascontiguousarray(photo)
    return hashlib.blake2b(pixels.data, salt=str(pixels.shape).encode()[:16]).hexdigest()


def photo_from_file(path: str | Path) -> Photo:
    """Read a picture file as a camera meant it: turned by EXIF, alpha on white, at most 1024 px.

    Raises:
        ReferenceImageError: It is not there, no whole picture, or too small.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.array(_to_8_bits(ImageOps.exif_transpose(picture)).convert("RGBA"))
    except _UNREADABLE as error:
        raise ReferenceImageError(
            f"A photo was expected, but {path} cannot be read: {error}. "
            "Use a whole JPEG, PNG or WebP file."
        ) from error
    return photos_from_image(torch.from_numpy(pixels).unsqueeze(0).float() / 255)[0]


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Scale 16 bit gray, which Pillow's conversions would clip at 255."""
    if not picture.mode.startswith("I"):
        return picture
    gray = np.asarray(picture).clip(0, 65535) / 257
    return Image.fromarray(gray.round().astype(np.uint8))


def photos_from_image(image: Tensor) -> list[Photo]:
    """Turn an IMAGE batch into photos a face detector can read.

    Gray is repeated to RGB, alpha is composited on white, and a long side above 1024 px is
    reduced to 1024 with Lanczos; smaller photos keep their size.

    Args:
        image: (B, H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA), in [0, 1].

    Returns:
        One photo per batch item.

    Raises:
        ReferenceImageError: The batch is empty, has another layout, holds NaN or infinity, or is
            smaller than 32 px on a side.
    """
    if image.ndim != 4 or not 1 <= image.shape[3] <= 4:
        raise ReferenceImageError(
            "The reference must be an IMAGE of shape (batch, height, width, 1 to 4 channels), but "
            f"its shape is {tuple(image.shape)}. Connect the output of an image node."
        )
    if image.shape[0] == 0:
        raise ReferenceImageError(
            "The reference is an IMAGE batch without images. Connect at least one photo."
        )
    return [_photo_from_hwc(item, index, len(image)) for index, item in enumerate(image)]


def rgb_photo(item: Tensor) -> Photo:
    """Repeat gray to RGB, and put alpha on white.

    Args:
        item: (H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA), in [0, 1].
    """
    height, width, channels = item.shape
    item = item.float().clamp(0, 1)
    color = item[..., : channels - 1 + channels % 2]  # without the alpha of 2 or 4 channels
    if channels % 2 == 0:
        alpha = item[..., -1:]
        color = color * alpha + (1 - alpha)
    color = color.expand(height, width, 3)
    return (color * 255).round().to(torch.uint8).cpu().numpy()


def _photo_from_hwc(item: Tensor, index: int, count: int) -> Photo:
    height, width, _ = item.shape
    name = f"Reference image {index + 1} of {count}"
    if not torch.isfinite(item).all():
        raise ReferenceImageError(
            f"{name} holds NaN or infinite values. "
            "Look at the node that made it: the picture is damaged."
        )
    photo = _limit_long_side(rgb_photo(item))
    if min(photo.shape[:2]) < MIN_PHOTO_SIDE_PX:
        raise ReferenceImageError(
            f"{name} is {width} x {height} px, too small or too narrow to show a face. "
            "Use a photo in which the face is at least about 100 px wide."
        )
    return photo


def _limit_long_side(photo: Photo) -> Photo:
    height, width = photo.shape[:2]
    scale = MAX_PHOTO_SIDE_PX / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(photo)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
