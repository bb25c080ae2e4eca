"""Photos to upload bytes, and delivered files to pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pulid_pack.pulid_core.errors import ReferenceImageError
from pulid_pack.pulid_core.pixels import photo_pixels
from pulid_pack.pulid_core.wavespeed.errors import RemoteImageError
from pulid_pack.pulid_core.wavespeed.images import (
    decode_base64_output,
    decode_image,
    encode_photo,
    resize_image,
)
from wavespeed_faults import bomb_png
from wavespeed_testing import photo


def uploaded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_round_trip():
    """A photo is uploaded to within half a step of eight bits."""
    picture = photo()
    assert (
        np.abs(decode_image(encode_photo(picture).data) / 255 - picture).max() <= 0.5 / 255 + 1e-6
    )


def test_opacity_goes_on_white():
    """Fully transparent is white, fully opaque is itself."""
    picture = np.zeros((64, 64, 4), np.float32)
    picture[:32, :, 3] = 1
    result = uploaded(encode_photo(picture).data)
    assert (result[:32] == 0).all()
    assert (result[32:] == 255).all()


@pytest.mark.parametrize(
    ("shape", "gray"), [((64, 64), 128), ((64, 64, 1), 128), ((64, 64, 2), 191)]
)
def test_grayscale(shape: tuple[int, ...], gray: int):
    """One channel becomes three; a second one is opacity on white."""
    result = uploaded(encode_photo(np.full(shape, 0.5, np.float32)).data)
    assert result.shape == (64, 64, 3)
    assert (result == gray).all()


def test_bytes_are_taken_as_they_are():
    """uint8 pictures are not rescaled."""
    picture = (photo() * 255).round().astype(np.uint8)
    assert (uploaded(encode_photo(picture).data) == picture).all()


def test_values_outside_the_range():
    """They are clipped."""
    assert (uploaded(encode_photo(np.full((64, 64, 3), 2.0, np.float32)).data) == 255).all()


@pytest.mark.parametrize(
    "photo",
    [
        np.full((64, 64, 3), np.nan, np.float32),
        np.full((64, 64), np.inf),
        np.full((64, 64, 3), 117 * 256, np.uint16),
        np.full((64, 64, 3), 128, np.int64),
        np.zeros((64, 64, 3), bool),
        np.full((64, 64, 3), 128.0),
        np.zeros((64, 64, 3), complex),
        np.full((64, 64, 3), "x"),
    ],
    ids=lambda photo: str(photo.dtype),
)
def test_photo_that_cannot_be_meant(photo: np.ndarray):
    """NaN, and numbers that are neither bytes nor shares, are refused before anything is paid."""
    with pytest.raises(ReferenceImageError):
        encode_photo(photo)


def test_sixteen_bits_of_gray_keep_their_shades():
    """As a delivered file and as a photo on disk."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), 32768, np.uint16)).save(buffer, "PNG")
    assert (decode_image(buffer.getvalue()) == 128).all()
    buffer.seek(0)
    assert (photo_pixels(Image.open(buffer)) == 128).all()


def test_large_photo_is_a_jpeg():
    """At a third of the bytes, hardly to be told from the original, and of the same name."""
    noise = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
    large = np.asarray(Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC))
    encoded = encode_photo(large)
    assert encoded.filename == "reference.jpg"
    png = io.BytesIO()
    encoded.picture.save(png, "PNG")
    assert len(encoded.data) < len(png.getvalue()) / 2
    assert np.abs(uploaded(encoded.data).astype(int) - large).mean() < 2


def test_nothing_is_encoded_that_is_not_uploaded():
    """The name of a photo needs its pixels only."""
    assert "data" not in vars(encode_photo(photo()))


def test_large_photo_is_reduced():
    """The longest side is at most 2048."""
    encoded = encode_photo(np.zeros((100, 4096, 3), np.uint8) + 7)
    assert encoded.picture.size == (2048, 50)


@pytest.mark.parametrize("shape", [(63, 100, 3), (100, 100, 5), (0, 64, 3), (64,), (2, 64, 64, 3)])
def test_unusable_photos(shape: tuple[int, ...]):
    """Too small, or no picture at all."""
    with pytest.raises(ReferenceImageError):
        encode_photo(np.zeros(shape, np.float32))


def test_digest_is_of_the_pixels():
    """The same picture has one name, whatever its array looks like."""
    picture = (photo() * 255).round().astype(np.uint8)
    assert encode_photo(picture).digest == encode_photo(picture.astype(np.float32) / 255).digest
    assert encode_photo(picture).digest != encode_photo(picture[::-1]).digest


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_delivered_formats(kind: str):
    """Every documented format is decoded to RGB."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(buffer, kind)
    image = decode_image(buffer.getvalue())
    assert image.shape == (16, 32, 3)
    assert image.dtype == np.uint8
    assert np.abs(image / 255 - [1, 0, 0]).max() < 0.02


def test_delivered_modes():
    """Palette, grayscale, 16 bit and transparency come out as RGB on white."""
    for mode, colour in [("P", 0), ("L", 0), ("I;16", 0), ("LA", (0, 0)), ("RGBA", (0, 0, 0, 0))]:
        buffer = io.BytesIO()
        Image.new(mode, (8, 8), colour).save(buffer, "PNG")
        image = decode_image(buffer.getvalue())
        assert image.shape == (8, 8, 3)
        assert (image == (255 if "A" in mode else 0)).all(), mode


def test_broken_colour_profile_is_ignored():
    """A damaged profile costs the colours a little, not the image."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG", icc_profile=b"nonsense")
    assert decode_image(buffer.getvalue()).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", bomb_png(9000), bomb_png(20000), bomb_png(5000)],
    ids=["empty", "gif", "only magic", "81 Mpx", "400 Mpx", "25 Mpx"],
)
def test_refused_files(data: bytes):
    """What is not an image within the limits is refused before its pixels are made."""
    with pytest.raises(RemoteImageError):
        decode_image(data)


def test_cut_file():
    """Half a file is damaged, not half an image."""
    data = encode_photo(photo()).data
    with pytest.raises(RemoteImageError) as caught:
        decode_image(data[: len(data) // 2])
    assert caught.value.damaged


def test_base64_outputs():
    """Naked base64 and data URIs are read; anything else is not."""
    assert decode_base64_output("aGVsbG8=") == b"hello"
    assert decode_base64_output("data:image/png;base64,aGVsbG8=") == b"hello"
    assert decode_base64_output("file:///etc/passwd") is None


def test_resize_keeps_the_range():
    """Lanczos overshoot is clipped."""
    image = resize_image(photo(), 200, 100)
    assert image.shape == (100, 200, 3)
    assert 0 <= image.min() <= image.max() <= 1
