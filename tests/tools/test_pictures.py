"""Every picture is there, and shows what it was taken of as it is now."""

import dataclasses

import pytest
from PIL import ImageChops, ImageStat
from pulid_pack.devtools import cards, pictures
from pulid_pack.devtools.portrait_workflow import FOLDER

WORKFLOWS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_has_its_card(path):
    card = cards.CARDS[path.name[:2]]
    drawn = pictures.is_fresh(path.with_suffix(".jpg"), cards.source(card))
    assert drawn, "run `python devtools/cards.py`"
    assert all(len(line) <= 12 for line in card.words)


def test_a_card_is_bright_and_its_words_are_on_it():
    """At 220 px, as the template browser shows it."""
    card = cards.CARDS["01"]
    wordless = cards.draw(dataclasses.replace(card, words=(" ",)))
    shown = cards.draw(card)
    assert ImageStat.Stat(shown.convert("L")).mean[0] > 100
    assert ImageChops.difference(shown, wordless).getbbox() is not None


@pytest.mark.parametrize("name", sorted(pictures.named_in_readme()))
def test_readme_shows_workflows_as_they_are(name):
    path = pictures.ROOT / name
    names = " ".join(sorted(workflow.name for workflow in WORKFLOWS)).encode()
    source = names if path.stem == "templates" else pictures.OF_WORKFLOWS[path.name].read_bytes()
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
    screenshot = WORKFLOWS[0].with_suffix(".jpg").read_bytes()
    pictures.save(screenshot, path, b"graph", 64)
    assert pictures.is_fresh(path, b"graph")
    assert not pictures.is_fresh(path, b"graph with another node")
