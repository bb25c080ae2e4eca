"""Pictures that no file can give, before the gate: damaged, in gray, with alpha, none at all."""

import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from pulid_pack.nodes.face_model import FaceModel
from pulid_pack.nodes.likeness_gate import PulidLikenessGate
from pulid_pack.pulid_core.errors import PulidError
from pulid_pack.pulid_core.images import photo_from_file
from pulid_pack.tests.inside_comfyui.world import execute
from pulid_pack.tests.people import to_image


@pytest.fixture(scope="module")
def photo(demo_photo):
    return to_image(photo_from_file(demo_photo).pixels)


@pytest.fixture(scope="module")
def face_model(stage):
    return FaceModel(stage / "insightface/models/antelopev2", "auto")


def gate(face_model, photo, *images, threshold=0.5, keep_best=0):
    return execute(
        PulidLikenessGate,
        images=list(images), reference=[photo], face_model=[face_model],
        threshold=[threshold], keep_best=[keep_best],
    )  # fmt: skip


def test_a_damaged_picture_is_rejected_alone(face_model, photo):
    """As one black picture of a half-precision VAE among good ones; it is given back as it was."""
    damaged = torch.full_like(photo, torch.nan)
    out = gate(face_model, photo, torch.cat((damaged, photo)), photo[:, :8])
    accepted, rejected, scores, order, report = out.result
    assert order == [1]
    assert scores == pytest.approx([1.0])
    assert torch.equal(accepted[0], photo)
    assert [tuple(picture.shape) for picture in rejected] == [(1, 512, 512, 3), (1, 8, 512, 3)]
    assert rejected[0].isnan().all()
    assert "Image 1: rejected: Image 1 of 3 is damaged: it holds NaN" in report
    assert "Image 3: rejected: Image 3 of 3 is 512 x 8 px, too small" in report


def test_pictures_keep_their_channels(face_model, photo):
    """The face is sought on white; what goes on is what came."""
    with_alpha = torch.cat((photo, torch.ones_like(photo[..., :1])), dim=-1)
    accepted, *_ = gate(face_model, photo, with_alpha).result
    assert torch.equal(accepted[0], with_alpha)


def test_never_an_empty_batch(face_model, photo):
    """Neither out, where it is a silent stop, nor in, where it is somebody's mistake."""
    gray = torch.full_like(photo, 0.5)
    accepted, rejected, scores, order, _ = gate(face_model, photo, gray, threshold=-1.0).result
    assert len(rejected[0]) == 1
    for blocked in (accepted, scores, order, gate(face_model, photo, photo).result[1]):
        assert isinstance(blocked, ExecutionBlocker)
        assert blocked.message is None
    with pytest.raises(PulidError, match="this one is without images"):
        gate(face_model, photo, photo, photo[:0])


def test_another_packs_model_is_refused(photo):
    with pytest.raises(PulidError, match="PulidLikenessGate needs a face model of PuLID for FLUX"):
        gate("theirs", photo, photo)


def test_a_face_model_is_read_when_it_is_first_used_and_once(face_model):
    never_there = FaceModel("/nowhere", "auto")  # no file is touched here
    with pytest.raises(PulidError):
        _ = never_there.faces
    assert face_model.faces is face_model.faces
