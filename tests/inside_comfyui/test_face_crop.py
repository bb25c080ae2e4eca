"""Faces cut out of pictures, picture by picture; the detector is scripted."""

from types import SimpleNamespace

import comfy.model_management
import numpy as np
import pytest
import torch
from pulid_pack.nodes.face_crop import PulidFaceCrop
from pulid_pack.nodes.pulid_models import Pulid
from pulid_pack.pulid_core.errors import FaceIndexError
from pulid_pack.pulid_core.face.detection import Face
from pulid_pack.tests.inside_comfyui.world import World, execute


@pytest.fixture
def pulid(monkeypatch, tmp_path):
    """Two faces on the first picture, in other places on the second, one on the third."""
    lefts = ((20, 120), (160, 60), (100,))

    def find(photo, pause):
        pause()
        return [
            Face(np.array((left, 40.0, left + 30, 80)), np.zeros((5, 2)), 0.9)
            for left in lefts[photo.index]
        ]

    faces = SimpleNamespace(find=find, settle=lambda photo, face, pause: face)
    monkeypatch.setattr(Pulid, "faces", faces)
    return World(tmp_path).load_pulid()


def crop(pulid, pictures, index=0):
    return execute(
        PulidFaceCrop,
        face_model=pulid, image=pictures, face_order="left-to-right", face_index=index, size=256, context=2.0,
    ).result  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_picture_for_itself(pulid, channels):
    """Lists of one item per picture, as ComfyUI hands them on; colours without alpha."""
    pictures = torch.rand(2, 150, 220, channels, generator=torch.Generator().manual_seed(0))
    picture, crops, masks, x, y, side = crop(pulid, pictures)
    assert [p.shape for p in picture] == [(1, 150, 220, 3)] * 2
    assert torch.equal(picture[1], pictures[1:, ..., :3].expand(-1, -1, -1, 3))
    assert [c.shape for c in crops] == [(1, 256, 256, 3)] * 2
    assert [m.shape for m in masks] == [(1, 256, 256)] * 2
    assert (x, y, side) == ([0, 35], [20, 20], [80, 80])


def test_fewer_faces_are_said(pulid):
    with pytest.raises(FaceIndexError, match="Face 1 was wanted in image 3 of 3, but only 1"):
        crop(pulid, torch.rand(3, 150, 220, 3), 1)


def test_it_stops_when_the_user_cancels(pulid):
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        crop(pulid, torch.rand(2, 150, 220, 3))
