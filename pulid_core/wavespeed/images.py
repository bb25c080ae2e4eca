"""Photos to upload bytes, and delivered bytes to pictures, within limits."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import ReferenceImageError
from ..paid_jobs.exchange import MIB
from ..pixels import UNREADABLE, Pixels, picture_pixels, rgb_pixels
from .errors import RemoteImageError

FORMATS = ("PNG", "JPEG", "WEBP")
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}

UPLOAD_MAX_SIDE = 2048
UPLOAD_MIN_SIDE = 64
UPLOAD_PNG_PIXELS = 600_000
"""Larger photos go up as JPEG of high quality, at a third of the bytes."""
UPLOAD_QUALITY = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 95, "subsampling": 0}}
DELIVERY_MAX_BYTES = 32 * MIB
DELIVERY_MAX_SIDE = 4096
DELIVERY_MAX_PIXELS = 16_000_000
DELIVERY_MAX_FILES = 8


@dataclass(frozen=True)
class EncodedPhoto:
    """A reference photo as it is uploaded.

    Attributes:
        picture: At most 2048 pixels on a side.
        digest: sha256 of size and pixels: the same for the same picture under every encoding.
    """

    picture: Image.Image = field(repr=False)
    digest: str

    @cached_property
    def data(self) -> bytes:
        """The file, encoded when it is asked for: a photo that is known there needs none."""
        buffer = io.BytesIO()
        self.picture.save(buffer, self.format, **UPLOAD_QUALITY[self.format])
        return buffer.getvalue()

    @property
    def format(self) -> str:
        """What the file is, as Pillow calls it."""
        width, height = self.picture.size
        return "PNG" if width * height <= UPLOAD_PNG_PIXELS else "JPEG"

    @property
    def filename(self) -> str:
        """A name that says nothing about the user."""
        return f"reference.{EXTENSIONS[self.format]}"

    @property
    def content_type(self) -> str:
        """The media type."""
        return f"image/{self.format.lower()}"


def encode_photo(photo: NDArray[np.generic]) -> EncodedPhoto:
    """Turn one picture into what is uploaded.

    Args:
        photo: As `rgb_pixels` takes it.

    Raises:
        ReferenceImageError: As `rgb_pixels`, or a side shorter than 64 pixels.
    """
    picture = Image.fromarray(rgb_pixels(np.asarray(photo)))
    if min(picture.size) < UPLOAD_MIN_SIDE:
        raise ReferenceImageError(
            f"The reference image is {picture.width} x {picture.height} pixels; both sides must "
            f"have at least {UPLOAD_MIN_SIDE}. Use a larger photo."
        )
    if max(picture.size) > UPLOAD_MAX_SIDE:
        picture = ImageOps.contain(
            picture, (UPLOAD_MAX_SIDE, UPLOAD_MAX_SIDE), Image.Resampling.LANCZOS
        )
    size = struct.pack("<II", *picture.size)
    return EncodedPhoto(picture, hashlib.sha256(size + picture.tobytes()).hexdigest())


def check_files(files: Sequence[bytes]) -> None:
    """Refuse delivered files that are more, or larger, than this machine should hold.

    The sizes are read from the headers, before any pixel is decoded.

    Raises:
        RemoteImageError: Which limit, or not a PNG, JPEG or WebP.
    """
    pixels = 0
    for data in files:
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
        except UNREADABLE:
            raise _undecodable(data) from None
        pixels += width * height
        if max(width, height) > DELIVERY_MAX_SIDE or pixels > DELIVERY_MAX_PIXELS:
            raise RemoteImageError(
                f"{width} x {height} pixels, allowed {DELIVERY_MAX_SIDE} per side and "
                f"{DELIVERY_MAX_PIXELS} in all"
            )
    if sum(map(len, files)) > DELIVERY_MAX_BYTES:
        raise RemoteImageError(f"more than {DELIVERY_MAX_BYTES // MIB} MiB in all")


def decode_image(data: bytes) -> Pixels:
    """Turn a delivered file into a picture.

    Returns:
        (H, W, 3), uint8, sRGB, upright; transparency is put on white.

    Raises:
        RemoteImageError: Not a PNG, JPEG or WebP, damaged, or larger than the limits.
    """
    check_files([data])
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            picture.load()
            return picture_pixels(picture)
    except Exception:  # noqa: BLE001 - whatever a file makes of its decoder
        raise _undecodable(data) from None


def _undecodable(data: bytes) -> RemoteImageError:
    return RemoteImageError(f"{len(data)} bytes that cannot be decoded", damaged=True)


def extension_of(data: bytes) -> str:
    """How the name of a delivered file should end."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        return EXTENSIONS[picture.format or "PNG"]


def resize_image(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Resample a picture, (H, W, 3) in [0, 1], to another size with Lanczos."""
    bands = [
        Image.fromarray(image[..., band]).resize((width, height), Image.Resampling.LANCZOS)
        for band in range(3)
    ]
    return np.stack([np.asarray(band, np.float32) for band in bands], axis=2).clip(0, 1)


def decode_base64_output(text: str) -> bytes | None:
    """The bytes of an output that came inside the answer, or None for anything else.

    Accepts naked base64 and data URIs.
    """
    encoded = text.split(",", 1)[-1] if text.startswith("data:") else text
    if len(encoded) > DELIVERY_MAX_BYTES * 4 // 3 + 4:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
