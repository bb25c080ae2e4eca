"""Arrays to upload bytes, and delivered bytes to arrays, within limits.

Arrays are float or uint8, (height, width, channels), RGB order; floats are in [0, 1].
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import logging
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from ..errors import ReferenceImageError
from .errors import RemoteImageError
from .transport import MIB

LOGGER = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP")

UPLOAD_MAX_SIDE = 2048
UPLOAD_MIN_SIDE = 64
UPLOAD_PNG_BYTES = 15 * MIB
UPLOAD_MAX_BYTES = 20 * MIB  # the smallest limit that any of the service's pages names
DELIVERY_MAX_BYTES = 32 * MIB
DELIVERY_MAX_SIDE = 4096
DELIVERY_MAX_PIXELS = 16_000_000

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for files that are not what they seem."""


@dataclass(frozen=True)
class EncodedPhoto:
    """A reference photo as it is uploaded.

    Attributes:
        digest: sha256 of size and pixels: the same for the same picture under every encoder.
        warnings: What was changed on the way, in sentences.
    """

    data: bytes = field(repr=False)
    digest: str
    extension: str
    width: int
    height: int
    warnings: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        """A name that says nothing about the user."""
        return f"reference.{self.extension}"

    @property
    def content_type(self) -> str:
        """The media type."""
        return "image/png" if self.extension == "png" else "image/jpeg"


def encode_photo(photo: NDArray[np.generic]) -> EncodedPhoto:
    """Turn one picture into the bytes to upload.

    Args:
        photo: (H, W) or (H, W, C), C in 1 to 4; a fourth channel is opacity, put on white.

    Raises:
        ReferenceImageError: Another shape, or a side shorter than 64 pixels.
    """
    warnings: list[str] = []
    picture = Image.fromarray(_rgb_bytes(np.asarray(photo), warnings), "RGB")
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
    digest = hashlib.sha256(size + picture.tobytes()).hexdigest()
    data, extension = _saved(picture, "PNG"), "png"
    if len(data) > UPLOAD_PNG_BYTES:
        data, extension = _saved(picture, "JPEG", quality=95, subsampling=0), "jpg"
    if len(data) > UPLOAD_MAX_BYTES:
        raise ReferenceImageError(
            f"The reference image is too large after encoding ({len(data) / MIB:.1f} MiB, allowed "
            f"{UPLOAD_MAX_BYTES // MIB}). Use a smaller photo."
        )
    return EncodedPhoto(data, digest, extension, *picture.size, tuple(warnings))


def _rgb_bytes(photo: NDArray[np.generic], warnings: list[str]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 from every layout a photo comes in."""
    if photo.ndim == 2:
        photo = photo[..., None]
    if photo.ndim != 3 or not 1 <= photo.shape[2] <= 4 or 0 in photo.shape:
        raise ReferenceImageError(
            f"A reference image has the shape (height, width, 1 to 4 channels), not {photo.shape}."
        )
    pixels = photo.astype(np.float32) / (255 if photo.dtype == np.uint8 else 1)
    if not np.isfinite(pixels).all():
        pixels = np.nan_to_num(pixels, nan=0, posinf=0, neginf=0)
        warnings.append("The reference image held NaN or infinite values; they became black.")
    pixels = pixels.clip(0, 1)
    channels = pixels.shape[2]
    if channels == 4:
        pixels = pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])
    elif channels < 3:
        pixels = pixels[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray((pixels * 255).round().astype(np.uint8))


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def decode_image(data: bytes) -> NDArray[np.float32]:
    """Turn a delivered file into a picture.

    The size is read from the header and checked before any pixel is decoded.

    Returns:
        (H, W, 3), float32 in [0, 1], sRGB, upright; transparency is put on white.

    Raises:
        RemoteImageError: Not a PNG, JPEG or WebP, damaged, or larger than the limits.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            over_limit = _over_limit(width, height)
            if not over_limit:
                picture.load()
                return np.asarray(_srgb(picture), dtype=np.float32) / np.float32(255)
    except _UNREADABLE:
        reason = f"{len(data)} bytes that cannot be decoded"
        raise RemoteImageError(reason, damaged=True) from None
    raise RemoteImageError(over_limit)


def _over_limit(width: int, height: int) -> str:
    if max(width, height) > DELIVERY_MAX_SIDE or width * height > DELIVERY_MAX_PIXELS:
        return (
            f"{width} x {height} pixels, allowed {DELIVERY_MAX_SIDE} per side and "
            f"{DELIVERY_MAX_PIXELS} in all"
        )
    return ""


def _srgb(picture: Image.Image) -> Image.Image:
    """Upright, on white, in sRGB where a profile says how to get there."""
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    if profile and picture.mode == "RGB":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"))
            picture = converted or picture
        except (ImageCms.PyCMSError, OSError):
            LOGGER.warning("The colour profile of a delivered image is damaged; it was ignored.")
    if "A" in picture.mode or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    return picture.convert("RGB")


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
