"""IMAGE tensors of every kind become photos, or one clear error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pulid_pack.pulid_core.errors import ReferenceImageError
from pulid_pack.pulid_core.images import photo_from_file, photo_to_bchw, photos_from_image


def test_rgb_is_rounded_not_truncated():
    values = torch.arange(256).float() / 255
    photo = photos_from_image(values.view(1, 16, 16, 1).repeat(1, 4, 4, 3))[0]
    assert np.array_equal(np.unique(photo), np.arange(256))


def test_gray_is_repeated_and_alpha_is_composited_on_white():
    gray = torch.full((1, 40, 40, 1), 0.2)
    assert (photos_from_image(gray)[0] == 51).all()
    half = torch.full((1, 40, 40, 1), 0.5)
    assert (photos_from_image(torch.cat((gray, half), 3))[0] == 153).all()  # 0.2 / 2 + 0.5
    clear = torch.cat((torch.zeros(1, 40, 40, 3), torch.zeros(1, 40, 40, 1)), 3)
    assert (photos_from_image(clear)[0] == 255).all()


def test_values_outside_the_range_are_clamped():
    assert (photos_from_image(torch.full((1, 40, 40, 3), 7.0))[0] == 255).all()
    assert (photos_from_image(torch.full((1, 40, 40, 3), -7.0))[0] == 0).all()


def test_long_side_is_reduced_to_1024_and_small_photos_stay():
    reduced = photos_from_image(torch.rand(1, 2000, 1000, 3))[0]
    assert reduced.shape == (1024, 512, 3)
    assert photo_to_bchw(reduced).shape == (1, 3, 1024, 512)  # torch warns of read-only pixels
    assert photos_from_image(torch.rand(1, 1024, 1000, 3))[0].shape == (1024, 1000, 3)
    assert photos_from_image(torch.rand(1, 33, 50, 3))[0].shape == (33, 50, 3)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (torch.zeros(0, 64, 64, 3), "without images"),
        (torch.zeros(64, 64, 3), r"\(64, 64, 3\)"),
        (torch.zeros(1, 64, 64, 5), r"\(1, 64, 64, 5\)"),
        (torch.zeros(1, 1, 1, 3), "image 1 of 1 is 1 x 1 px"),
        (torch.zeros(1, 9000, 40, 3), "image 1 of 1 is 40 x 9000 px"),
        (torch.stack((torch.zeros(64, 64, 3), torch.full((64, 64, 3), torch.nan))), "2 of 2"),
        (torch.full((1, 64, 64, 3), torch.inf), "NaN or infinite"),
    ],
)
def test_useless_references_are_refused(image, found):
    with pytest.raises(ReferenceImageError, match=found):
        photos_from_image(image)


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
    assert np.array_equal(photo_from_file(path), gray[..., None].repeat(3, 2))


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
    """Either RGB uint8 photos of at most 1024 px, or a ReferenceImageError."""
    image = torch.full((batch, height, width, channels), 0.5, dtype=dtype)
    try:
        photos = photos_from_image(image)
    except ReferenceImageError:
        assert min(height, width) * min(1, 1024 / max(height, width)) < 32.5
        return
    assert len(photos) == batch
    for photo in photos:
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
        assert max(photo.shape) <= 1024
        assert abs(photo.shape[0] / photo.shape[1] - height / width) / (height / width) < 0.05
