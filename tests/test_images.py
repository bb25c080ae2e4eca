"""IMAGE tensors of every kind become photos, or one clear error."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pulid_pack.pulid_core.errors import ReferenceImageError
from pulid_pack.pulid_core.images import (
    photo_from_file,
    photo_to_bchw,
    photos_from_image,
    rgb_pixels,
)


def test_rgb_is_rounded_not_truncated():
    values = torch.arange(256).float() / 255
    photo = photos_from_image(values.view(1, 16, 16, 1).repeat(1, 4, 4, 3))[0].pixels
    assert np.array_equal(np.unique(photo), np.arange(256))


def test_gray_is_repeated_and_alpha_is_composited_on_white():
    gray = torch.full((1, 40, 40, 1), 0.2)
    assert (photos_from_image(gray)[0].pixels == 51).all()
    half = torch.full((1, 40, 40, 1), 0.5)
    assert (photos_from_image(torch.cat((gray, half), 3))[0].pixels == 153).all()  # 0.2 / 2 + 0.5
    clear = torch.cat((torch.zeros(1, 40, 40, 3), torch.zeros(1, 40, 40, 1)), 3)
    assert (photos_from_image(clear)[0].pixels == 255).all()


def test_values_outside_the_range_are_clamped():
    assert (photos_from_image(torch.full((1, 40, 40, 3), 7.0))[0].pixels == 255).all()
    assert (photos_from_image(torch.full((1, 40, 40, 3), -7.0))[0].pixels == 0).all()


def test_photos_keep_their_size_and_know_their_place():
    first, second = photos_from_image(torch.rand(2, 2000, 1001, 3))
    assert first.pixels.shape == second.pixels.shape == (2000, 1001, 3)
    assert (second.width, second.height, str(second)) == (1001, 2000, "image 2 of 2")
    assert photo_to_bchw(first.pixels).shape == (
        1,
        3,
        2000,
        1001,
    )  # torch warns of read-only pixels


def test_equal_pictures_have_equal_keys():
    image = torch.rand(1, 40, 60, 3)
    (photo,), (again,) = photos_from_image(image), photos_from_image(image.clone())
    assert photo.key == again.key
    image[0, 39, 59, 2] += 0.5 if image[0, 39, 59, 2] < 0.5 else -0.5
    assert photos_from_image(image)[0].key != photo.key
    assert photos_from_image(image.view(1, 60, 40, 3))[0].key != photos_from_image(image)[0].key


@pytest.mark.slow
def test_a_photo_of_144_megapixels_is_converted_in_bands():
    """Its 8 bit pixels, 432 MB, and little more: never a second copy in floats."""
    image = torch.full((1, 1, 1, 1), 0.2).expand(1, 12_000, 12_000, 3)
    tracemalloc.start()  # numpy's memory
    (photo,) = photos_from_image(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert photo.pixels.shape == (12_000, 12_000, 3)
    assert (photo.pixels[::999, ::999] == 51).all()
    assert peak < photo.pixels.nbytes + 2**23


def test_half_floats_are_widened_in_bands():
    image = torch.full((1, 1000, 2000, 4), 0.5, dtype=torch.bfloat16)
    with torch.profiler.profile(profile_memory=True) as profile:
        photos_from_image(image)
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert 0 < largest < image.nbytes / 8


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (torch.zeros(0, 64, 64, 3), "without images"),
        (torch.zeros(64, 64, 3), r"\(64, 64, 3\)"),
        (torch.zeros(1, 64, 64, 5), r"\(1, 64, 64, 5\)"),
        (torch.zeros(1, 1, 1, 3), "Image 1 of 1 is 1 x 1 px"),
        (torch.zeros(1, 9000, 40, 3), "Image 1 of 1 is 40 x 9000 px"),
        (torch.stack((torch.zeros(64, 64, 3), torch.full((64, 64, 3), torch.nan))), "2 of 2"),
        (torch.full((1, 64, 64, 3), torch.inf), "NaN or infinite"),
        (torch.full((1, 64, 64, 3), 200.0), "goes up to 200. Divide it by 255"),
    ],
)
def test_useless_references_are_refused(image, found):
    with pytest.raises(ReferenceImageError, match=found):
        photos_from_image(image)


def test_a_result_may_be_damaged_but_is_a_picture():
    """On a sheet of many, NaN is black as ComfyUI shows it; another layout is refused."""
    picture = torch.ones(8, 8, 3)
    picture[4:] = torch.nan
    assert rgb_pixels(picture)[:, 0, 0].tolist() == [255] * 4 + [0] * 4
    with pytest.raises(ReferenceImageError, match=r"\(8, 8, 5\)"):
        rgb_pixels(torch.zeros(8, 8, 5))


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(np.uint8, ".png"), (np.uint16, ".png"), (np.uint16, ".tiff"), (np.int32, ".tiff")],
)
def test_a_gray_file_of_16_bits_looks_like_one_of_8(tmp_path, dtype, suffix):
    """Pillow has the modes L, I;16 and I for them; older ones read the PNG as I, too."""
    gray = np.arange(256).repeat(16).reshape(64, 64)
    path = tmp_path / f"gray{suffix}"
    scale = 1 if dtype is np.uint8 else 257
    Image.fromarray((gray * scale).astype(dtype)).save(path)
    assert np.array_equal(photo_from_file(path).pixels, gray[..., None].repeat(3, 2))


def test_a_file_that_is_no_whole_picture_is_refused(tmp_path):
    """Missing, a folder, something else, and a JPEG and a PNG cut at any place."""
    (tmp_path / "text.png").write_text("<html>")
    files = [tmp_path / "missing.png", tmp_path, tmp_path / "text.png"]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in (".jpg", ".png"):
        whole = tmp_path / f"whole{suffix}"
        noise.save(whole)
        content = whole.read_bytes()
        for kept in range(0, len(content) * 9 // 10, len(content) // 40):
            files.append(tmp_path / f"{kept}{suffix}")
            files[-1].write_bytes(content[:kept])
    for file in files:
        with pytest.raises(ReferenceImageError, match="A photo was expected, but") as caught:
            photo_from_file(file)
        assert str(file) in str(caught.value)


def test_a_picture_beyond_pillows_limit_is_refused(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ReferenceImageError, match="exceeds limit"):
        photo_from_file(tmp_path / "large.png")


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 4),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)  # fmt: skip
def test_any_size_and_channel_count(batch, height, width, channels, dtype):
    """Either RGB uint8 photos of the same size, or a ReferenceImageError."""
    image = torch.full((batch, height, width, channels), 0.5, dtype=dtype)
    try:
        photos = photos_from_image(image)
    except ReferenceImageError:
        assert min(height, width) < max(32, max(height, width) / 32)
        return
    assert len(photos) == batch
    for photo in photos:
        assert photo.pixels.dtype == np.uint8
        assert photo.pixels.shape == (height, width, 3)
