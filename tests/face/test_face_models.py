"""The face model's files: only from disk, only those that can be used, and named when they cannot."""

import shutil
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pytest
from pulid_pack.pulid_core.errors import (
    CheckpointError,
)
from pulid_pack.pulid_core.face.analyser import FaceAnalyser
from pulid_pack.pulid_core.images import Photo
from pulid_pack.tests.people import take


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
    (face,), (expected,) = (a.find(Photo(astronaut)) for a in (FaceAnalyser(pack), analyser))
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


def newer_opset(model):
    model.opset_import[0].version = 999


def newer_ir(model):
    model.ir_version = 999


def unknown_node(model):
    model.graph.node[0].op_type = "Teleport"


def no_input(model):
    del model.graph.input[:]


def flat_input(model):
    del model.graph.input[0].type.tensor_type.shape.dim[1:]


def no_output(model):
    del model.graph.output[:]


@pytest.mark.parametrize("name", ["glintr100.onnx", "scrfd_10g_bnkps.onnx"])
@pytest.mark.parametrize(
    "change", [newer_opset, newer_ir, unknown_node, no_input, flat_input, no_output]
)
def test_an_onnx_file_that_cannot_be_used_is_named(pack, name, change, astronaut):
    """In one short sentence, when it is loaded or when it is first used."""
    model = onnx.load(pack / name)
    change(model)
    (pack / name).write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError) as caught:
        take(astronaut, FaceAnalyser(pack))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_a_recogniser_of_another_size_is_refused(pack, astronaut):
    model = onnx.load(pack / "glintr100.onnx")
    (weight,) = (w for w in model.graph.initializer if list(w.dims) == [588, 512])
    weight.CopyFrom(onnx.numpy_helper.from_array(np.ones((588, 256), np.float32), weight.name))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, pack / "glintr100.onnx")
    with pytest.raises(CheckpointError, match="512 numbers"):
        take(astronaut, FaceAnalyser(pack))


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
