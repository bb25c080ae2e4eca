"""docs/troubleshooting.md against the source: every error text, and no other."""

import pytest
from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.devtools.error_texts import error_texts
from pulid_pack.devtools.pages import PAGES, TROUBLESHOOTING, Trouble, troubleshooting

TROUBLES = troubleshooting((ROOT / TROUBLESHOOTING).read_text(encoding="utf-8"))
MESSAGES = [message for trouble in TROUBLES for message in trouble.messages]
TEXTS = error_texts([ROOT / "nodes", ROOT / "pulid_core"])


def test_every_text_has_one_row():
    rows = {text: [trouble for trouble in TROUBLES if trouble.fits(text)] for text in TEXTS}
    assert [text for text, found in rows.items() if not found] == []
    assert [(text, found) for text, found in rows.items() if len(found) > 1] == []


@pytest.mark.parametrize("message", MESSAGES)
def test_every_row_stands_for_a_text(message):
    assert any(Trouble((message,), "", frozenset()).fits(text) for text in TEXTS)


def test_every_row_has_a_cure_and_names_nodes_that_exist():
    pages = {page.stem for page in (ROOT / PAGES).glob("*.md")}
    for trouble in TROUBLES:
        assert trouble.remedy.endswith(".")
        assert {name for name in trouble.nodes if name.startswith(("Pulid", "Wavespeed"))} <= pages
        assert trouble.nodes


SOURCE = """
LIMIT = "three"
class PulidError(Exception): ...
class FileError(PulidError):
    def __init__(self, path, reason="unknown"):
        super().__init__(f"{path}: {reason}")
class Caught(Exception): ...
class Node:
    def run(self, path):
        text = "joined, " + f"with {self.value} and {LIMIT}"
        texts = {1: "from a table"}
        if text:
            raise PulidError(text)
        raise FileError(path, texts.get(path, f"the default {path}").strip())
    def validate_inputs(self):
        return "refused" if self else True
def fail(path):
    raise PulidError(told(path))
def told(path):
    return f"told of {path}" if path else "told of nothing"
def helper():
    raise Caught("never shown")
"""


def test_texts_are_put_together_as_python_would(tmp_path):
    (tmp_path / "source.py").write_text(SOURCE)
    assert error_texts([tmp_path]) == {
        "joined, with … and three",
        "…: from a table",
        "…: the default …",
        "refused",
        "told of …",
        "told of nothing",
    }
