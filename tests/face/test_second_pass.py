"""A face cut out for a second pass: what is enlarged, and what may change."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pulid_pack.pulid_core.face.detection import Face
from pulid_pack.pulid_core.face.second_pass import SMALLEST_CONTEXT, crop_face


def face(left, top, right, bottom):
    return Face(np.array((left, top, right, bottom), float), np.zeros((5, 2)), 0.9)


def picture(height=300, width=400):
    """Colours that say where they are."""
    down, across = torch.meshgrid(
        torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"
    )
    return torch.stack((down, across, torch.full_like(down, 0.5)), -1)


def pasted(whole, crop, color):
    """What core's nodes do: scale back, and lay over it by the mask."""
    mask = F.interpolate(crop.mask.unsqueeze(1), (crop.side, crop.side), mode="bilinear")[0, 0]
    out = whole.clone()
    part = (slice(crop.top, crop.top + crop.side), slice(crop.left, crop.left + crop.side))
    mask = mask.unsqueeze(-1)
    out[part] = mask * color + (1 - mask) * whole[part]
    return out


def changed(whole, *crops):
    out = whole
    for crop in crops:
        out = pasted(out, crop, torch.tensor((1.0, 0.0, 1.0)))
    return (out != whole).any(-1)


@pytest.mark.parametrize("context", [SMALLEST_CONTEXT, 2.0, 4.0])
def test_the_square_is_around_the_face(context):
    one = face(180, 130, 220, 180)
    crop = crop_face(picture(), one, [], 256, context)
    assert crop.side == round(context * 50)
    assert abs(crop.left + crop.side / 2 - 200) <= 0.5
    assert abs(crop.top + crop.side / 2 - 155) <= 0.5
    assert crop.picture.shape == (1, 256, 256, 3)
    assert crop.mask.shape == (1, 256, 256)
    corner = crop.picture[0, 0, 0]
    assert torch.allclose(corner[:2], torch.tensor((crop.top / 299, crop.left / 399)), atol=0.01)


@pytest.mark.parametrize(
    "box", [(0, 0, 40, 50), (360, 250, 400, 300), (-10, 100, 30, 160), (50, 5, 350, 295)]
)
def test_it_stays_within_the_picture(box):
    """Also for faces at the border, beyond it, and larger than the picture allows."""
    crop = crop_face(picture(), face(*box), [], 64, 2.0)
    assert 0 <= crop.left <= 400 - crop.side
    assert 0 <= crop.top <= 300 - crop.side
    assert 0 <= crop.mask.min() <= crop.mask.max() == 1
    assert crop.picture.isfinite().all()


def test_the_whole_face_is_painted_and_little_else():
    one = face(180, 130, 220, 180)
    touched = changed(picture(), crop_face(picture(), one, [], 256, 3.0))
    rows, columns = (touched.any(axis).nonzero()[:, 0] for axis in (1, 0))
    assert rows.min() <= 130
    assert rows.max() >= 179
    assert 130 - rows.min() < 0.4 * 50
    assert columns.max() - 220 < 0.4 * 40


def test_no_other_face_changes_and_no_pixel_beyond():
    """Side by side, cheek to cheek, and for both at once."""
    people = [face(100, 100, 150, 160), face(152, 95, 200, 160), face(300, 110, 340, 160)]
    crops = [
        crop_face(picture(), people[i], people[:i] + people[i + 1 :], 256, 4.0) for i in (0, 1)
    ]
    for crop, other in itertools.product(crops, people):
        touched = changed(picture(), crop)
        own = people[crops.index(crop)]
        left, top, right, bottom = other.box.astype(int)
        inside = touched[top:bottom, left:right]
        if other is own:
            assert inside.float().mean() > 0.7
        else:
            assert inside[10:-10, 8:-8].sum() == 0
    assert (changed(picture(), crops[0]) & changed(picture(), crops[1])).float().mean() < 0.02
    assert not changed(picture(), *crops)[:, 250:].any()


def test_no_seam_where_the_square_ends_within_the_picture():
    """A face that fills a narrow picture: the mask falls to 0 at the sides that are not the picture's."""
    crop = crop_face(picture(200, 600), face(200, 10, 400, 190), [], 256, 2.0)
    assert crop.side == 200
    assert crop.mask[0, :, 0].max() == crop.mask[0, :, -1].max() == 0
    assert crop.mask[0, 0].max() > 0


def test_it_is_enlarged_without_leaving_the_range():
    sharp = (torch.rand(300, 400, 3, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    crop = crop_face(sharp, face(180, 130, 220, 180), [], 512, 2.0)
    assert crop.picture.min() >= 0
    assert crop.picture.max() <= 1
