"""Pictures as bytes of RGB, whatever they came as; refused where they cannot be meant. No torch."""

from __future__ import annotations

import io
import logging
import struct
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from .errors import ReferenceImageError

LOGGER = logging.getLogger(__name__)

Photo = NDArray[np.uint8]
"""One RGB picture, (H, W, 3) uint8."""

UNREADABLE = (
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for files that are not what they seem."""

_BYTES_TAKEN_FOR_SHARES = 16.0
"""A float above this was meant to be 0 to 255, and would be a white picture."""


def rgb_pixels(photo: NDArray[np.generic], name: str = "The reference image") -> Photo:
    """Turn an array into RGB bytes: gray is repeated, transparency is put on white.

    Args:
        photo: (H, W) or (H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA); uint8, or
            floats in [0, 1], of which what is outside is clipped.
        name: How an error calls it.

    Raises:
        ReferenceImageError: Another shape or type, NaN, infinity, or floats up to 255.
    """
    if photo.ndim == 2:
        photo = photo[..., None]
    if photo.ndim != 3 or not 1 <= photo.shape[2] <= 4 or 0 in photo.shape:
        raise ReferenceImageError(
            f"{name} should be (height, width, 1 to 4 channels), but is {photo.shape}. "
            "Give one picture, not a batch."
        )
    is_bytes = photo.dtype == np.uint8
    if not is_bytes and not np.issubdtype(photo.dtype, np.floating):
        raise ReferenceImageError(
            f"{name} should be uint8, or floats from 0 to 1, but is {photo.dtype}. Convert it to 8 "
            "bits first."
        )
    channels = photo.shape[2]
    if is_bytes and channels == 3:
        return np.ascontiguousarray(photo, np.uint8)
    pixels = photo.astype(np.float32) / np.float32(255 if is_bytes else 1)
    if not np.isfinite(pixels).all():
        raise ReferenceImageError(
            f"{name} is damaged: it holds NaN or infinite values. Look at the node that made it."
        )
    if pixels.max() > _BYTES_TAKEN_FOR_SHARES:
        raise ReferenceImageError(
            f"{name} should hold floats from 0 to 1, but goes up to {pixels.max():g}. Divide it by 255."
        )
    pixels = pixels.clip(0, 1)
    if channels % 2 == 0:
        alpha = pixels[..., -1:]
        pixels = pixels[..., :-1] * alpha + (1 - alpha)
    return np.ascontiguousarray(
        (pixels * 255).round().astype(np.uint8).repeat(_copies(channels), 2)
    )


def _copies(channels: int) -> int:
    return 3 if channels < 3 else 1


def photo_pixels(photo: str | PathLike[str] | Image.Image | NDArray[np.generic]) -> Photo:
    """Read a photo from where it is: the path of a file, a picture of Pillow's, or an array.

    Raises:
        ReferenceImageError: It cannot be read, or as `rgb_pixels`.
    """
    if isinstance(photo, np.ndarray):
        return rgb_pixels(photo)
    if isinstance(photo, Image.Image):
        return picture_pixels(photo)
    try:
        with Image.open(photo) as picture:
            return picture_pixels(picture)
    except UNREADABLE as error:
        raise ReferenceImageError(
            f"A photo was expected, but {photo} cannot be read: {error}. "
            "Use a whole JPEG, PNG or WebP file."
        ) from None


def picture_pixels(picture: Image.Image) -> Photo:
    """Turn a decoded picture upright, into sRGB where a profile says how, and put it on white."""
    profile = picture.info.get("icc_profile")
    has_alpha = "A" in picture.mode or "transparency" in picture.info
    picture = _to_8_bits(ImageOps.exif_transpose(picture))
    if has_alpha:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        color = _to_srgb(picture.convert("RGB"), profile)
        layer = Image.new("RGB", picture.size, "white")
        layer.paste(color, mask=alpha)
        return np.array(layer)
    return np.array(_to_srgb(picture, profile).convert("RGB"))


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Scale 16 bit gray, which Pillow's conversions would clip at 255."""
    if not picture.mode.startswith("I"):
        return picture
    gray = np.asarray(picture).clip(0, 65535) / 257
    return Image.fromarray(gray.round().astype(np.uint8))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if not profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, TypeError):
        LOGGER.warning("The colour profile of a picture is damaged; it was ignored.")
        return picture
