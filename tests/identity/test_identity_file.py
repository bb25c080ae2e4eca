"""The file: small, exact, refused when it does not fit, loadable with next to nothing installed."""

import errno
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulid_pack.pulid_core.errors import (
    CheckpointError,
    IdentityExistsError,
    IdentityMismatchError,
    PulidError,
)
from pulid_pack.pulid_core.identity.file import KnownCheckpoint, load_identity, save_identity
from pulid_pack.pulid_core.identity.identity import blend_identities, provenance_text, thumbnails
from pulid_pack.tests.people import make_identity
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]

LOAD_ALONE = """
import sys, types

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"insightface", "onnxruntime", "timm", "cv2", "torchvision", "comfy"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
pack = types.ModuleType("pulid_pack")
pack.__path__ = [sys.argv[1]]
sys.modules["pulid_pack"] = pack
from pulid_pack.pulid_core import file_hash
from pulid_pack.pulid_core.file_hash import HashMemory
from pulid_pack.pulid_core.identity.name import path_below
from pulid_pack.pulid_core.identity.file import load_identity
identity = load_identity(sys.argv[2])
print(identity.tokens.double().sum().item(), identity.provenance.checkpoint.sha256)
"""


def test_round_trip_is_exact(tmp_path):
    identity = make_identity(photos=2, copies=2)
    loaded = load_identity(save_identity(identity, tmp_path / "deep" / "ann.safetensors"))
    for name in ("tokens", "uncond_tokens", "arcface_embeddings"):
        assert torch.equal(getattr(loaded, name), getattr(identity, name))
        assert getattr(loaded, name).dtype == torch.float32
    assert loaded.provenance.photo_weights == (1.0, 1.0)
    assert loaded.provenance.checkpoint == identity.provenance.checkpoint
    assert replace(loaded.provenance, checkpoint=None) == replace(
        identity.provenance, checkpoint=None
    )
    assert torch.allclose(thumbnails(loaded), thumbnails(identity), atol=0.5 / 255 + 1e-6)
    again = load_identity(save_identity(loaded, tmp_path / "again.safetensors"))
    assert torch.equal(again.crops, loaded.crops)


def test_size_is_about_260_kb(tmp_path):
    path = save_identity(make_identity(), tmp_path / "a.safetensors", with_thumbnails=False)
    assert 262_144 < path.stat().st_size < 268_000
    path = save_identity(make_identity(), tmp_path / "b.safetensors")
    assert path.stat().st_size < 280_000


def test_the_file_holds_what_the_format_page_says(tmp_path):
    """docs/identity-format.md names every tensor and every entry of the header."""
    path = save_identity(make_identity(photos=3, copies=3), tmp_path / "a.safetensors")
    page = (ROOT / "docs/identity-format.md").read_text(encoding="utf-8")
    with safe_open(path, "pt") as file:
        for name in (*file.keys(), *file.metadata()):
            assert f"`{name}`" in page
        assert file.metadata()["format_version"] == "1"
        assert json.loads(file.metadata()["photo_weights"]) == [1.0, 1.0, 1.0]
        assert [file.get_tensor(n).dtype for n in ("tokens", "uncond_tokens")] == [torch.half] * 2
        assert file.get_tensor("thumbnails").shape == (3, 112, 112)


def test_tokens_beyond_float16_keep_their_value(tmp_path):
    huge = replace(make_identity(), tokens=torch.full((1, 32, 2048), 1e6))
    assert torch.equal(huge.rounded().tokens, huge.tokens)
    loaded = load_identity(save_identity(huge, tmp_path / "huge.safetensors"))
    assert torch.equal(loaded.tokens, huge.tokens)


def test_saving_never_overwrites_unasked(tmp_path):
    path = save_identity(make_identity(seed=1), tmp_path / "a.safetensors")
    with pytest.raises(IdentityExistsError, match="exists already"):
        save_identity(make_identity(seed=2), path)
    assert torch.equal(load_identity(path).tokens, make_identity(seed=1).tokens)
    save_identity(make_identity(seed=2), path, overwrite=True)
    assert torch.equal(load_identity(path).tokens, make_identity(seed=2).tokens)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_an_identity_without_provenance_or_with_another_suffix_is_not_saved(tmp_path):
    with pytest.raises(PulidError, match="checkpoint"):
        save_identity(replace(make_identity(), provenance=None), tmp_path / "a.safetensors")
    with pytest.raises(PulidError, match="Let it end"):
        save_identity(make_identity(), tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failing", "overwrite"),
    [("mkdir", False), ("mkdir", True), ("write", False), ("write", True), ("replace", True)],
)
def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch, failing, overwrite):
    """No folder, no room, or on Windows: somebody reads the file. What was there stays."""
    path = tmp_path / "a.safetensors"
    if overwrite:
        save_identity(make_identity(seed=1), path)
    if failing == "mkdir":
        (tmp_path / "a file").touch()
        path = tmp_path / "a file" / "a.safetensors"
    elif failing == "write":
        monkeypatch.setattr(Path, "open", lambda file, mode: Full(file, mode))
    else:
        monkeypatch.setattr(Path, "replace", Mock(side_effect=PermissionError("in use")))
    before = list(tmp_path.iterdir())
    with pytest.raises(PulidError, match="but cannot be written: ") as caught:
        save_identity(make_identity(seed=2), path, overwrite=overwrite)
    assert not isinstance(caught.value, IdentityExistsError)
    assert list(tmp_path.iterdir()) == before
    if overwrite and failing != "mkdir":
        monkeypatch.undo()
        assert torch.equal(load_identity(path).tokens, make_identity(seed=1).tokens)


def test_a_save_that_could_not_begin_deletes_nothing(tmp_path, monkeypatch):
    """As when a shared folder answers with another error than that the file exists."""
    path = save_identity(make_identity(seed=1), tmp_path / "a.safetensors")
    for method in ("touch", "open"):
        monkeypatch.setattr(Path, method, Mock(side_effect=PermissionError("denied")))
    with pytest.raises(PulidError, match="but cannot be written: denied"):
        save_identity(make_identity(seed=2), path)
    monkeypatch.undo()
    assert torch.equal(load_identity(path).tokens, make_identity(seed=1).tokens)


class Full(io.FileIO):
    """A file on a disk where only a few bytes are left."""

    def write(self, content):
        super().write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_checkpoint_is_refused_by_name(tmp_path):
    identity = load_identity(
        save_identity(make_identity(checkpoint="a"), tmp_path / "a.safetensors")
    )
    identity.require(KnownCheckpoint("renamed.safetensors", "a" * 64))
    with pytest.raises(IdentityMismatchError) as caught:
        identity.require(KnownCheckpoint("b.safetensors", "b" * 64))
    assert "a.safetensors (SHA-256 aaaaaaaaaaaa…)" in str(caught.value)
    assert "b.safetensors (SHA-256 bbbbbbbbbbbb…)" in str(caught.value)
    with pytest.raises(IdentityMismatchError):
        blend_identities(identity, make_identity(checkpoint="b"), 0.5)
    with pytest.raises(IdentityMismatchError, match=r"buffalo_l was wanted, but .* antelopev2"):
        identity.require_face_model("buffalo_l")


def test_a_blend_is_an_identity_that_can_be_saved(tmp_path):
    blend = blend_identities(make_identity(seed=1), make_identity(3, 3, seed=2), 0.25).rounded()
    loaded = load_identity(save_identity(blend, tmp_path / "blend.safetensors"))
    assert torch.equal(loaded.tokens, blend.tokens)
    assert loaded.tokens.shape[1] == 96
    assert loaded.provenance.fusion == "blend"
    assert len(loaded.crops) == 4
    assert "weights 0.75, 0.25" in provenance_text(loaded)


def change(path, tensors=None, texts=None, drop=()):
    """Write the file again with some things changed."""
    with safe_open(path, "pt") as file:
        header = file.metadata() | (texts or {})
    kept = load_file(path) | (tensors or {})
    save_file(
        {k: v for k, v in kept.items() if k not in drop},
        path,
        {k: v for k, v in header.items() if k not in drop},
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"texts": {"format": "lora"}}, "header does not say so"),
        ({"texts": {"format_version": "2"}}, "version '2'. Update PuLID for FLUX"),
        ({"texts": {"photo_weights": "two"}}, "no list of numbers"),
        ({"drop": ("checkpoint_sha256",)}, "header lacks checkpoint_sha256"),
        ({"drop": ("tokens",)}, "it holds the tensors"),
        ({"tensors": {"lora_up": torch.zeros(1)}}, "it holds the tensors"),
        ({"tensors": {"tokens": torch.zeros(1, 33, 2048)}}, "the shape"),
        ({"tensors": {"tokens": torch.zeros(32, 2048)}}, "the shape"),
        ({"tensors": {"tokens": torch.full((1, 32, 2048), torch.nan)}}, "NaN"),
        ({"tensors": {"arcface_embeddings": torch.zeros(512)}}, "the shape"),
        ({"texts": {"photo_weights": "[" * 60_000}}, "no list of numbers"),
        ({"texts": {"photo_weights": "[" * 100_000}}, r"its photo_weights is '\[+…'"),
        ({"texts": {"photo_weights": f"[1{'0' * 400}]"}}, "no list of numbers"),
        ({"texts": {"photo_weights": "[Infinity]"}}, "not finite"),
        ({"texts": {"format_version": "\x1b[2J" * 9}}, r"version '�\[2J"),
        ({"texts": {"pack_version": "\x1b[2J<script>"}}, r"pack_version is '�\[2J<script>'"),
        ({"texts": {"pack_version": "1" * 2_000_000}}, "of them its header"),
        ({"texts": {"checkpoint_sha256": "A" * 64}}, "its checkpoint_sha256 is"),
        ({"tensors": {"\x1b[2J" * 99: torch.zeros(1)}}, r"the tensors '�\[2J.*…'"),
        ({"tensors": {"tokens": torch.zeros(1, 32, 8)}}, "the shape"),
        ({"tensors": {"uncond_tokens": torch.zeros(1, 32, 8)}}, "the shape"),
        ({"tensors": {"arcface_embeddings": torch.zeros(1, 7)}}, "the shape"),
        ({"tensors": {"arcface_embeddings": torch.zeros(0, 512)}}, "the shape"),
        ({"tensors": {"thumbnails": torch.zeros(1, 0, 5, dtype=torch.uint8)}}, "the shape"),
        ({"tensors": {"thumbnails": torch.zeros(3000, 1, 1, dtype=torch.uint8)}}, "the shape"),
        ({"tensors": {"thumbnails": torch.zeros(999, 112, 112, dtype=torch.uint8)}}, "the shape"),
        ({"tensors": {"tokens": torch.zeros(1, 32, 2048).to(torch.float8_e4m3fn)}}, "float8"),
        ({"tensors": {"arcface_embeddings": torch.zeros(1, 512) * 1j}}, "complex64"),
        ({"tensors": {"thumbnails": torch.zeros(1, 112, 112)}}, "uint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_identity_is_refused(tmp_path, changes, text):
    """In one short sentence."""
    path = save_identity(make_identity(), tmp_path / "a.safetensors")
    change(path, **changes)
    with pytest.raises(CheckpointError, match=text) as caught:
        load_identity(path)
    message = str(caught.value).removeprefix(str(path))
    assert len(message) < 400
    assert message.isprintable()


def test_a_damaged_or_missing_file_is_refused(tmp_path):
    path = save_identity(make_identity(), tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_identity(path)
    with pytest.raises(CheckpointError, match="there is none"):
        load_identity(tmp_path / "b.safetensors")


def test_a_loaded_identity_does_not_depend_on_its_file(tmp_path):
    """Tensors that are stored as they are used, float32, would be mapped from the file."""
    huge = replace(make_identity(), tokens=torch.full((1, 32, 2048), 1e6))
    path = save_identity(huge, tmp_path / "a.safetensors")
    loaded = load_identity(path)
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    assert torch.equal(loaded.tokens, huge.tokens)
    assert torch.equal(loaded.arcface_embeddings, huge.arcface_embeddings)


def test_arcface_vectors_become_float32(tmp_path):
    path = save_identity(make_identity(), tmp_path / "a.safetensors")
    change(path, {"arcface_embeddings": torch.ones(1, 512).half()})
    assert load_identity(path).arcface_embeddings.dtype == torch.float32


def test_a_type_of_numbers_that_pytorch_lacks_is_damage(tmp_path):
    path = save_identity(make_identity(), tmp_path / "a.safetensors")
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    tensor = {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}
    header = json.dumps({"__metadata__": texts, "tokens": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3))
    with pytest.raises(CheckpointError, match="damaged"):
        load_identity(path)


DIES_WHILE_WRITING = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pulid_core.whole_file import write_whole
os.fsync = lambda _: os._exit(9)
write_whole(Path(sys.argv[2]), b"new" * 1000, overwrite=sys.argv[3] == "overwrite")
"""


@pytest.mark.parametrize("if_exists", ["overwrite", "error"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_process_that_dies_while_writing_leaves_the_old_file_or_none(
    tmp_path, if_exists, is_there
):
    path = tmp_path / "a.safetensors"
    if is_there:
        path.write_bytes(b"old")
    command = [sys.executable, "-c", DIES_WHILE_WRITING, str(ROOT), str(path), if_exists]
    assert subprocess.run(command, check=False).returncode == 9
    assert (path.read_bytes() if path.exists() else None) == (b"old" if is_there else None)
    assert [p.suffix for p in tmp_path.iterdir() if p != path] == [".unfinished"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_link_is_never_written_through(tmp_path, overwrite):
    """Neither at the final name nor at one that a begun file could have."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    folder = tmp_path / "identities"
    folder.mkdir()
    for name in ("a.safetensors", "a.unfinished", "a.safetensors.unfinished"):
        (folder / name).symlink_to(theirs)
    if overwrite:
        path = save_identity(make_identity(), folder / "a.safetensors", overwrite=True)
        assert not path.is_symlink()
        load_identity(path)
    else:
        with pytest.raises(IdentityExistsError):
            save_identity(make_identity(), folder / "a.safetensors")
    assert theirs.read_bytes() == b"theirs"


def test_without_hard_links_an_existing_file_stays(tmp_path, monkeypatch):
    """As on exFAT."""
    monkeypatch.setattr(Path, "hardlink_to", Mock(side_effect=OSError(errno.EPERM, "no links")))
    path = save_identity(make_identity(seed=1), tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(IdentityExistsError):
        save_identity(make_identity(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_loads_without_insightface_timm_onnxruntime_and_cv2(tmp_path):
    """In a fresh interpreter where importing any of them fails."""
    identity = make_identity(photos=2)
    path = save_identity(identity, tmp_path / "a.safetensors")
    command = [sys.executable, "-c", LOAD_ALONE, str(ROOT), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    total, sha256 = done.stdout.split()
    assert float(total) == identity.tokens.double().sum().item()
    assert sha256 == "a" * 64


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    copies=st.integers(1, 4),
    photos=st.integers(1, 5),
    crop=st.sampled_from([(336, 672), (112, 112), (0, 0)]),
    scale=st.sampled_from([1e-8, 1.0, 1e3, 1e30]),
    with_thumbnails=st.booleans(),
)
def test_any_identity_comes_back(tmp_path, copies, photos, crop, scale, with_thumbnails):
    """Any number of photos and tokens, any size of values, with and without pictures."""
    identity = make_identity(photos, copies)
    crops = torch.rand(photos if crop[0] else 0, *(crop if crop[0] else (1, 1)), 3)
    identity = replace(identity, tokens=identity.tokens * scale, crops=crops).rounded()
    path = tmp_path / "any.safetensors"
    save_identity(identity, path, with_thumbnails=with_thumbnails, overwrite=True)
    loaded = load_identity(path)
    assert torch.equal(loaded.tokens, identity.tokens)
    assert torch.equal(loaded.arcface_embeddings, identity.arcface_embeddings)
    assert len(loaded.crops) == (len(crops) if with_thumbnails else 0)
