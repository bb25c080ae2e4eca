"""The right person: chosen by order and index, seen by both branches, found on hard photos.

The stage's detector is a matched filter for the demo photo's face. It shows that photos are prepared,
cropped, padded and read back rightly; which faces a real SCRFD would find it cannot show, so the six
people of t1 are found by a script that holds what a person read from the picture.
"""

import shutil
from unittest.mock import Mock

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from insightface.utils.face_align import norm_crop
from pulid_pack.benchmarks.peer_encoder import PeerEncoder
from pulid_pack.pulid_core.encoder.encode import encode_identity
from pulid_pack.pulid_core.encoder.vision_tower import INPUT_SIZE_PX
from pulid_pack.pulid_core.errors import (
    CheckpointError,
    FaceIndexError,
    NoFaceError,
    ReferenceImageError,
)
from pulid_pack.pulid_core.face.analyser import (
    FACE_ORDERS,
    FaceAnalyser,
    align,
    choose_face,
    face_warnings,
    sharpness,
)
from pulid_pack.pulid_core.face.portrait import EncodeSettings, choose_portraits
from pulid_pack.tests.people import T1_FACES, scripted

T1_ORDERS = {
    "largest": "CFDAEB",
    "smallest": "BEADFC",
    "center": "CDBEAF",
    "left-to-right": "ABCDEF",
    "top-to-bottom": "EBFACD",
}
"""The people of t1 in each order, as a person would sort them."""


def cosine(one, other):
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def own_crop_and_vector(person, photo, analyser):
    """facexlib's crop and InsightFace's vector of one person of t1, by the peers' own code."""
    scale = photo.shape[1] / 1280
    points = np.array(T1_FACES[person][1], np.float32) * scale
    bgr = np.ascontiguousarray(photo[..., ::-1])
    vector = analyser._recogniser.get_feat(norm_crop(bgr, points, 112)).flatten()
    return PeerEncoder.align(bgr, points)[..., ::-1], vector


def test_every_order_is_checked():
    assert T1_ORDERS.keys() == FACE_ORDERS.keys()


@pytest.mark.parametrize("order", FACE_ORDERS)
def test_both_branches_take_the_same_person_of_six(t1, t1_analyser, order):
    """For every index: box, crop (vision branch) and vector (ArcFace branch) of one person."""
    peers = {person: own_crop_and_vector(person, t1, t1_analyser) for person in T1_FACES}
    for index, person in enumerate(T1_ORDERS[order]):
        (portrait,), (report,) = choose_portraits([t1], t1_analyser, EncodeSettings(order, index))
        box = np.array(T1_FACES[person][0]) * t1.shape[1] / 1280
        assert np.allclose(report.chosen.box, box, atol=0.01)
        crop, _ = peers[person]
        assert np.abs(portrait.crop.astype(int) - crop).mean() < 0.1
        likeness = {name: cosine(portrait.embedding.numpy(), peers[name][1]) for name in T1_FACES}
        assert likeness[person] > 1 - 1e-6
        assert max(likeness, key=likeness.get) == person
        assert sorted(likeness.values())[-2] < 0.999


def test_the_vision_branch_sees_the_crop_of_the_chosen_person(t1, t1_analyser, tiny_stages):
    """face_crops, left: the aligned crop of the person that the vector belongs to."""
    stages = type(tiny_stages)(
        t1_analyser, tiny_stages.parser, tiny_stages.vision, tiny_stages.encoder
    )
    for index, person in enumerate("ABCDEF"):
        identity = encode_identity([t1], stages, EncodeSettings("left-to-right", index))
        crop, vector = own_crop_and_vector(person, t1, t1_analyser)
        small = cv2.resize(crop, (INPUT_SIZE_PX, INPUT_SIZE_PX), interpolation=cv2.INTER_AREA)
        shown = identity.crops[0, :, :INPUT_SIZE_PX].numpy() * 255
        assert np.abs(shown - small).mean() < 3
        assert cosine(identity.arcface_embeddings[0].numpy(), vector) > 1 - 1e-6


def test_alignment_is_facexlibs_within_a_pixel():
    """Where the corners of the photo go differs by less than 1 px, for faces in any position."""
    generator = np.random.default_rng(1)
    template = np.array([(80, 90), (130, 92), (105, 120), (85, 145), (125, 147)], np.float64)
    for _ in range(20):
        angle, size = generator.uniform(-0.7, 0.7), generator.uniform(0.5, 3)
        turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
        points = (template @ turn.T * size + generator.uniform(50, 300, 2)).astype(np.float32)
        points += generator.normal(0, size, points.shape).astype(np.float32)
        photo = generator.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        photo = cv2.resize(photo, (800, 600), interpolation=cv2.INTER_CUBIC)
        ours, peer = align(photo, points), PeerEncoder.align(photo, points)
        shift, _ = cv2.phaseCorrelate(ours[..., 0].astype(float), peer[..., 0].astype(float))
        assert np.hypot(*shift) < 1
        assert np.abs(ours.astype(int) - peer).mean() < 1


def test_key_points_in_one_place_are_refused():
    with pytest.raises(ReferenceImageError, match="Five key points"):
        align(np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 9.0))


def test_an_index_that_does_not_exist_lists_the_faces(t1, t1_analyser):
    with pytest.raises(FaceIndexError) as caught:
        choose_face(t1_analyser, t1, "left-to-right", 6, 1, 3)
    text = str(caught.value)
    assert (caught.value.image_index, caught.value.face_count) == (1, 6)
    assert "Face 6 was wanted in image 2 of 3" in text
    assert text.count("box") == 6
    assert "0 to 5" in text


def test_the_stages_detector_tells_sizes_apart(astronaut, analyser):
    """The same face twice, full and half size: one detection, and the orders choose among them."""
    group = astronaut.copy()
    group[256:, 256:] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    assert len(analyser.find(group)) == 2
    for order, index, center in (
        ("largest", 0, (225, 127)),
        ("largest", 1, (256 + 112, 256 + 63)),
        ("smallest", 0, (256 + 112, 256 + 63)),
        ("center", 0, (256 + 112, 256 + 63)),
        ("left-to-right", 0, (225, 127)),
        ("top-to-bottom", 1, (256 + 112, 256 + 63)),
    ):
        _, face = choose_face(analyser, group, order, index)
        assert np.allclose(face.center, center, atol=5)


def test_a_face_that_fills_the_frame_is_found_by_padding(analyser):
    """Key points come back in the pixels of the photo, not of the padded one."""
    points = ((60, 80), (140, 80), (100, 120), (70, 160), (130, 160))

    def detect(bgr):
        if bgr.shape[0] < 300:
            return []
        shift = np.array((bgr.shape[1] - 200) / 2)
        return [(np.array((20, 10, 180, 195)) + shift, np.array(points) + shift, 0.8)]

    (face,) = scripted(analyser, detect).find(np.zeros((200, 200, 3), np.uint8))
    assert np.allclose(face.key_points, points)
    assert np.allclose(face.box, (20, 10, 180, 195))


@pytest.mark.parametrize(
    ("quarters", "advice"),
    [(1, "90° to the right"), (2, "upside down"), (3, "90° to the left")],
)
def test_a_turned_photo_is_recognised_as_turned(analyser, quarters, advice):
    """A detector that finds upright faces only; its "face" is upright when white is at the top left."""
    upright = np.zeros((120, 160, 3), np.uint8)
    upright[:30, :30] = 255
    face = ((0, 0, 90, 90), np.zeros((5, 2)), 0.9)
    only_upright = scripted(analyser, lambda bgr: [face] if bgr[:20, :20].min() == 255 else [])
    turned = np.ascontiguousarray(np.rot90(upright, quarters))
    with pytest.raises(NoFaceError, match=advice):
        choose_face(only_upright, turned)


def test_a_tiny_face_gives_its_size(astronaut, analyser):
    """A face too small for the detector is found in a part of the photo, and named as too small."""
    photo = np.full((1024, 1024, 3), 255, np.uint8)
    photo[100:356, 100:356] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    whole = scripted(analyser, lambda bgr: [])
    real = analyser._detector
    whole._detector.detect = lambda bgr: (
        real.detect(bgr) if max(bgr.shape) < 600 else (np.zeros((0, 5)), np.zeros((0, 5, 2)))
    )
    with pytest.raises(
        NoFaceError, match="46 px is visible in a part of the photo only, too small"
    ):
        choose_face(whole, photo)


def test_nothing_to_be_found_says_what_was_tried(analyser):
    """The search for reasons is made once, too."""
    blind = scripted(analyser, lambda bgr: [])
    for _ in range(2):
        with pytest.raises(NoFaceError, match=r"image 3 of 4.*turned, or in parts"):
            choose_face(blind, np.zeros((300, 400, 3), np.uint8), image_index=2, image_count=4)
    assert blind._detector.calls == 2 + 3 + 9


def test_small_and_blurred_faces_warn(astronaut, analyser):
    def warnings(photo):
        (face,) = analyser.find(photo)
        return face_warnings(face, align(photo, face.key_points))

    assert warnings(astronaut) == ()
    assert "46 px wide" in warnings(cv2.resize(astronaut, (256, 256)))[0]
    (blurred,) = warnings(cv2.GaussianBlur(astronaut, (0, 0), 3))
    assert "blurred" in blurred


def test_sharpness_falls_with_blur(t1, t1_analyser):
    """For each of six people, and more for more blur; none of the six counts as blurred."""
    for face in t1_analyser.find(t1):
        values = [
            sharpness(align(cv2.GaussianBlur(t1, (0, 0), sigma) if sigma else t1, face.key_points))
            for sigma in (0, 1, 2, 4)
        ]
        assert values == sorted(values, reverse=True)
        assert values[0] > 0.05
        assert values[2] < 0.02


def test_a_photo_is_searched_and_embedded_once(t1, t1_analyser):
    fresh = scripted(t1_analyser, t1_analyser._detector._detect)
    for order in FACE_ORDERS:
        choose_portraits([t1, t1.copy()], fresh, EncodeSettings(order))
    assert fresh._detector.calls == 1


def test_embedding_is_raw(astronaut, analyser):
    """PuLID wants the vector as ArcFace gives it, not normalised."""
    (portrait,), _ = choose_portraits([astronaut], analyser, EncodeSettings())
    assert portrait.embedding.shape == (512,)
    assert not torch.isclose(portrait.embedding.norm(), torch.tensor(1.0), atol=0.1)


def test_a_missing_pack_is_an_error_and_not_a_download(tmp_path, monkeypatch):
    """InsightFace would fetch it, under its name into the home folder or to where it should be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("requests.sessions.Session.request", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "antelopev2", "antelopev2"):
        with pytest.raises(CheckpointError, match="Unpack antelopev2"):
            FaceAnalyser(folder)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def pack(stage, tmp_path):
    """A copy of the stage's pack, in a folder whose name looks like a pattern."""
    return shutil.copytree(
        stage / "insightface/models/antelopev2", tmp_path / "AI [models]" / "antelopev2"
    )


def test_brackets_in_a_folders_name_are_no_pattern(pack, astronaut, analyser):
    (face,), (expected,) = (a.find(astronaut) for a in (FaceAnalyser(pack), analyser))
    assert np.array_equal(face.key_points, expected.key_points)


def test_other_users_of_onnx_runtime_keep_their_log(pack, monkeypatch):
    """InsightFace's own loader silences the whole process."""
    silence = Mock()
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", silence)
    FaceAnalyser(pack)
    silence.assert_not_called()


@pytest.mark.parametrize("name", ["glintr100.onnx", "scrfd_10g_bnkps.onnx"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", 10, 2000, -1])
def test_a_damaged_file_of_the_pack_is_named(pack, name, content):
    """Empty, a web page, or cut after so many bytes."""
    path = pack / name
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(CheckpointError, match="damaged or not fully downloaded") as caught:
        FaceAnalyser(pack)
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["glintr100.onnx", "scrfd_10g_bnkps.onnx"])
def test_a_pack_without_one_of_its_files_is_refused(pack, name):
    """A link to nowhere is no file, either."""
    (pack / name).unlink()
    (pack / name).symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="lacks one of them"):
        FaceAnalyser(pack)


def test_other_models_of_the_pack_are_left_aside(pack, analyser):
    """Of two for one task the first by name counts, as in InsightFace."""
    shutil.copy(pack / "glintr100.onnx", pack / "a.onnx")
    loaded = FaceAnalyser(pack)
    assert loaded._recogniser.model_file == str(pack / "a.onnx")
    assert loaded._detector.input_size == analyser._detector.input_size == (640, 640)
    assert loaded._detector.det_thresh == 0.5
    assert loaded._detector.session.get_providers() == ["CPUExecutionProvider"]
