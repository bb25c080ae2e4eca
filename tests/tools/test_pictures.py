"""Every picture is there, and shows what it was taken of as it is now."""

import pytest
from pulid_pack.devtools import pictures
from pulid_pack.devtools.portrait_workflow import FOLDER

WORKFLOWS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_thumbnail_shows_the_workflow_as_it_is(path):
    assert pictures.is_fresh(path.with_suffix(".jpg"), path.read_bytes()), pictures.ADVICE


@pytest.mark.parametrize("name", sorted(pictures.named_in_readme()))
def test_readme_shows_workflows_as_they_are(name):
    path = pictures.ROOT / name
    workflow = FOLDER / f"{path.stem}.json"
    names = " ".join(sorted(workflow.name for workflow in WORKFLOWS)).encode()
    source = names if path.stem == "templates" else workflow.read_bytes()
    assert pictures.is_fresh(path, source), pictures.ADVICE


def test_no_picture_is_left_over():
    shown = set(pictures.named_in_readme())
    kept = {
        path.relative_to(pictures.ROOT).as_posix()
        for path in (pictures.ROOT / pictures.FOLDER).glob("*")
    }
    assert kept == shown
    thumbnails = {path.stem for path in FOLDER.glob("*.jpg")}
    assert thumbnails == {path.stem for path in WORKFLOWS}


def test_changed_source_makes_a_picture_stale(tmp_path):
    """And a missing one is no fresh one."""
    path = tmp_path / "picture.jpg"
    assert not pictures.is_fresh(path, b"graph")
    screenshot = (FOLDER / "portrait.jpg").read_bytes()
    pictures.save(screenshot, path, b"graph", 64)
    assert pictures.is_fresh(path, b"graph")
    assert not pictures.is_fresh(path, b"graph with another node")
