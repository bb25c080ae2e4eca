"""Image layouts and ranges, named for what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .errors import ReferenceImageError
from .pixels import UNREADABLE, Pixels, Shares, checked_shares, rgb_from_shares, to_8_bits

MIN_PHOTO_SIDE_PX = 32
MAX_NARROWNESS = 32
"""A photo this many times longer than wide, as a strip of a web page, shows no face."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo of a batch, in the size it came in."""

    pixels: Pixels
    index: int = 0
    """Position in the batch, for texts."""
    count: int = 1
    """Photos in the batch."""

    @cached_property
    def key(self) -> str:
        """Name of the picture by its size and pixels: equal pictures have equal keys."""
        pixels = np.ascontiguousarray(self.pixels)
        return hashlib.blake2b(pixels.data, salt=str(pixels.shape).encode()[:16]).hexdigest()

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[0]

    def __str__(self) -> str:
        return f"image {self.index + 1} of {self.count}"


def bhwc_to_bchw(image: Tensor) -> Tensor:
    """Move channels second: (B, H, W, C) -> (B, C, H, W)."""
    return image.movedim(-1, 1)


def bchw_to_bhwc(image: Tensor) -> Tensor:
    """Move channels last: (B, C, H, W) -> (B, H, W, C)."""
    return image.movedim(1, -1)


def image_from_photos(photos: Sequence[Pixels]) -> Tensor:
    """Turn pictures of one size into an IMAGE batch, float32 (B, H, W, 3) in [0, 1]."""
    return torch.cat([bchw_to_bhwc(photo_to_bchw(photo)) for photo in photos])


def photo_to_bchw(photo: Pixels) -> Tensor:
    """Turn one picture into float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(photo).permute(2, 0, 1).unsqueeze(0).float() / 255


def photo_from_file(path: str | Path, index: int = 0, count: int = 1) -> Photo:
    """Read a picture file, turned by EXIF, alpha on white, in the colours that ComfyUI gives it.

    A colour profile is not applied, since LoadImage applies none: the same photo is the same person.

    Args:
        path: Any format that Pillow reads.
        index: Position among the photos of one person, for texts.
        count: How many photos there are.

    Raises:
        ReferenceImageError: It is not there, no whole picture, or too small.
    """
    try:
        with Image.open(path) as picture:
            whole = to_8_bits(ImageOps.exif_transpose(picture))
            has_alpha = "A" in whole.getbands() or "transparency" in whole.info
            pixels = np.array(_on_white(whole) if has_alpha else whole.convert("RGB"))
    except UNREADABLE as error:
        raise ReferenceImageError(
            f"A photo was expected, but {path} cannot be read: {error}. "
            "Use a whole JPEG, PNG or WebP file."
        ) from error
    _check_size(pixels.shape[0], pixels.shape[1], index, count)
    return Photo(pixels, index, count)


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def photos_from_image(image: Tensor) -> list[Photo]:
    """Turn an IMAGE batch into photos, every one in its full size.

    Gray is repeated to RGB, and alpha is composited on white.

    Args:
        image: (B, H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA), in [0, 1].

    Returns:
        One photo per batch item.

    Raises:
        ReferenceImageError: The batch is empty, has another layout, holds NaN, infinity or numbers
            up to 255, or is smaller than 32 px on a side or a narrow strip.
    """
    check_batch(image)
    return [photo_from_hwc(item, index, len(image)) for index, item in enumerate(image)]


def check_batch(image: Tensor) -> None:
    """Refuse what is no IMAGE batch, (B, H, W, C) with 1 to 4 channels, or an empty one.

    Raises:
        ReferenceImageError: The batch is empty, or has another layout.
    """
    if image.ndim != 4 or not 1 <= image.shape[3] <= 4:
        raise ReferenceImageError(
            "An IMAGE of shape (batch, height, width, 1 to 4 channels) is needed, but the shape is "
            f"{tuple(image.shape)}. Connect the output of an image node."
        )
    if image.shape[0] == 0:
        raise ReferenceImageError(
            "An IMAGE batch is needed, but this one is without images. Look at the node that made it."
        )


def rgb_pixels(item: Tensor) -> Pixels:
    """Repeat gray to RGB, and put alpha on white. What is NaN is black.

    Args:
        item: (H, W, C) with 1 to 4 channels (gray, gray + alpha, RGB, RGBA), in [0, 1].
    """
    return rgb_from_shares(item.shape, lambda rows: np.nan_to_num(_shares(item[rows])), "A picture")


def photo_from_hwc(item: Tensor, index: int = 0, count: int = 1) -> Photo:
    """Turn one picture of a batch, (H, W, C), into a photo; see `photos_from_image`."""
    _check_size(item.shape[0], item.shape[1], index, count)
    name = f"Image {index + 1} of {count}"
    pixels = rgb_from_shares(
        item.shape, lambda rows: checked_shares(_shares(item[rows]), name), name
    )
    return Photo(pixels, index, count)


def _shares(rows: Tensor) -> Shares:
    return rows.detach().float().cpu().numpy()


def _check_size(height: int, width: int, index: int, count: int) -> None:
    shorter, longer = sorted((height, width))
    if shorter < max(MIN_PHOTO_SIDE_PX, longer / MAX_NARROWNESS):
        raise ReferenceImageError(
            f"Image {index + 1} of {count} is {width} x {height} px, too small or too "
            "narrow to show a face. Use a photo in which the face is at least about 100 px wide."
        )
