"""Where an identity is saved, and the hash of a file that is remembered."""

import hashlib
import json
import os
from unittest.mock import Mock

import pytest
from pulid_pack.pulid_core import file_hash
from pulid_pack.pulid_core.errors import (
    PulidError,
)
from pulid_pack.pulid_core.file_hash import HashMemory
from pulid_pack.pulid_core.identity.name import path_below


@pytest.mark.parametrize(
    "name", ["ann", "family/ann", "  ann.safetensors ", "安", "a.b", "console"]
)
def test_plain_names_are_kept(tmp_path, name):
    path = path_below(tmp_path, name)
    assert path.suffix == ".safetensors"
    assert path.stem == name.strip().removesuffix(".safetensors").rpartition("/")[2]
    assert tmp_path in path.parents


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", ".", "a/../b", "../a", "/a", "a//b", "a/", "C:/a", "..\\evil", "a\\b", "a\0b"),
        *(
            "a\ud800",
            "CON",
            "nul.txt",
            "com1",
            "aux/x",
            "x/LPT9.a",
            "trailing.",
            "trailing. /x",
            "a" * 300,
        ),
        *("a:b", "a\x1b[2J", "link/a"),
    ],
)
def test_other_names_are_refused(tmp_path, name):
    """Outside the folder, or not to be stored on every system."""
    folder, outside = tmp_path / "identities", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(PulidError, match="An identity is saved below") as caught:
        path_below(folder, name)
    assert str(caught.value).isprintable()


def test_a_hash_is_computed_once_for_each_content(tmp_path, monkeypatch):
    """Remembered by another process, too; forgotten with a new size or time; damage is no harm."""
    read = Mock(wraps=file_hash.sha256_of)
    monkeypatch.setattr(file_hash, "sha256_of", read)
    model, place = tmp_path / "model", tmp_path / "user" / "hashes.json"
    model.write_bytes(b"weights")
    digests = {HashMemory(place).sha256(model) for _ in range(3)}
    assert digests == {hashlib.sha256(b"weights").hexdigest()}
    assert read.call_count == 1
    model.write_bytes(b"others!")
    os.utime(model, ns=(1, 1))
    assert HashMemory(place).sha256(model) == hashlib.sha256(b"others!").hexdigest()
    for damage in ("", "[]", "{" * 99, '{"a": 1}', json.dumps({str(model): [7, 1]})):
        place.write_text(damage)
        assert HashMemory(place).sha256(model) == hashlib.sha256(b"others!").hexdigest()
    assert HashMemory(tmp_path / "model" / "no folder").sha256(model)
