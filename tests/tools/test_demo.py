"""The local demo: what it refuses before ComfyUI starts, and what it shows at the end."""

import argparse
from types import SimpleNamespace

import demo
import pytest
import skimage.data
from PIL import Image
from pulid_pack.devtools import portrait_workflow


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    return path


def test_a_photo_without_a_face_is_refused_at_once(stage, tmp_path, capsys):
    """ComfyUI is not even started; with a face it is told how many there are."""
    path = tmp_path / "landscape.png"
    Image.fromarray(skimage.data.coffee()).save(path)
    with pytest.raises(demo.DemoError, match="No face was found on"):
        demo.refuse_without_face(path, stage)
    demo.refuse_without_face(demo.tiny_stage.demo_photo(tmp_path / "portrait.png"), stage)
    assert "1 face(s) found" in capsys.readouterr().out


@pytest.mark.parametrize("models", [None, "folder"])
def test_noise_is_not_shown_as_a_picture(models, picture, tmp_path, capsys):
    prompt = {"1": {"class_type": "PulidApplyFlux"}, "2": {"class_type": "SaveImage"}}
    run = SimpleNamespace(seconds=1, images={"1": [picture], "2": [picture]})
    options = argparse.Namespace(output=tmp_path / "out", models=models)
    demo.report(run, prompt, options)
    shown = {path.name for path in options.output.iterdir()}
    assert shown == {"face.png", *(["picture.png"] if models else [])}
    told = capsys.readouterr().out
    assert "what the encoder saw" in told
    assert str(portrait_workflow.PATH) in told
