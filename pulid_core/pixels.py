"""Pictures as bytes of RGB, whatever they came as; refused where they cannot be meant. No torch."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import ReferenceImageError

LOGGER = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
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
_BAND_VALUES = 2**18
"""Pictures are converted in bands of rows of about so many values, which fit the processor's cache."""

Shares = NDArray[np.float32]
"""Rows of a picture as parts of full light, 0 to 1, with 1 to 4 channels: (H, W, C)."""


def rgb_pixels(photo: NDArray[np.generic], name: str = "The reference image") -> Pixels:
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
    is_bytes = photo.dtype == np.uint8
    if not is_bytes and not np.issubdtype(photo.dtype, np.floating):
        raise ReferenceImageError(
            f"{name} should be uint8, or floats from 0 to 1, but is {photo.dtype}. Convert it to 8 "
            "bits first."
        )
    if is_bytes and photo.shape[2:] == (3,) and photo.size:
        return np.ascontiguousarray(photo, np.uint8)
    full = np.float32(255 if is_bytes else 1)
    return rgb_from_shares(
        photo.shape, lambda rows: checked_shares(photo[rows].astype(np.float32) / full, name), name
    )


def rgb_from_shares(
    shape: Sequence[int], shares: Callable[[slice], Shares], name: str = "The reference image"
) -> Pixels:
    """Turn parts of full light into RGB bytes: gray is repeated, transparency is put on white.

    A band of rows at a time, so that a large picture never exists in floats beside its bytes.

    Args:
        shape: (H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA).
        shares: Gives the rows asked for; what is outside [0, 1] is clipped.
        name: How an error calls the picture.

    Raises:
        ReferenceImageError: Another shape.
    """
    if len(shape) != 3 or not 1 <= shape[2] <= 4 or 0 in shape:
        raise ReferenceImageError(
            f"{name} should be (height, width, 1 to 4 channels), but is {tuple(shape)}. "
            "Give one picture, not a batch."
        )
    height, width, channels = shape
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND_VALUES // (width * channels))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        color = shares(rows).clip(0, 1)
        if channels % 2 == 0:
            color, alpha = color[..., :-1], color[..., -1:]
            color = color * alpha + (1 - alpha)
        pixels[rows] = (color * 255).round()  # one channel goes into all three
    return pixels


def checked_shares(shares: Shares, name: str) -> Shares:
    """Refuse numbers that cannot be parts of full light; the others are given back.

    Raises:
        ReferenceImageError: NaN, infinity, or floats up to 255.
    """
    low, high = shares.min(), shares.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ReferenceImageError(
            f"{name} is damaged: it holds NaN or infinite values. Look at the node that made it."
        )
    if high > _BYTES_TAKEN_FOR_SHARES:
        raise ReferenceImageError(
            f"{name} should hold floats from 0 to 1, but goes up to {high:g}. Divide it by 255."
        )
    return shares


def photo_pixels(photo: str | PathLike[str] | Image.Image | NDArray[np.generic]) -> Pixels:
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


def picture_pixels(picture: Image.Image) -> Pixels:
    """Turn a decoded picture upright, into sRGB where a profile says how, and put it on white."""
    profile = picture.info.get("icc_profile")
    has_alpha = "A" in picture.mode or "transparency" in picture.info
    picture = to_8_bits(ImageOps.exif_transpose(picture))
    if has_alpha:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        color = _to_srgb(picture.convert("RGB"), profile)
        layer = Image.new("RGB", picture.size, "white")
        layer.paste(color, mask=alpha)
        return np.array(layer)
    return np.array(_to_srgb(picture, profile).convert("RGB"))


def to_8_bits(picture: Image.Image) -> Image.Image:
    """Scale 16 bit gray, which Pillow's conversions would clip at 255."""
    if not picture.mode.startswith("I"):
        return picture
    gray = np.asarray(picture).clip(0, 65535) / 257
    return Image.fromarray(gray.round().astype(np.uint8))


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if not profile or picture.mode not in ("RGB", "CMYK", "L"):
        return picture
    from PIL import ImageCms  # few pictures have a profile

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, srgb, outputMode="RGB") or picture
    except (ImageCms.PyCMSError, OSError, TypeError):
        LOGGER.warning("The colour profile of a picture is damaged; it was ignored.")
        return picture
