"""The users' command: what it does with the standard library alone."""

import json
import os
import shutil
import subprocess
import sys

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.tests.old_workflows import old_graphs

BARE = """
import runpy, sys
del sys.argv[0]
sys.modules |= dict.fromkeys(["venv", "ensurepip", "tkinter"])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_bare(*arguments):
    """Run pulid.py as portable ComfyUI's Python does: the standard library alone, without venv."""
    command = [sys.executable, "-I", "-S", "-c", BARE, ROOT / "pulid.py", *arguments]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result


def run_convert(*arguments):
    return run_bare("convert", *arguments)


def test_help_needs_nothing_installed():
    result = run_bare("--help")
    assert "models" in result.stdout
    assert "convert" in result.stdout


def test_models_needs_nothing_installed(tmp_path):
    assert "PuLID lacks 5 of its files" in run_bare("models", "--models", tmp_path).stdout


def test_what_the_terminal_cannot_write_is_escaped(tmp_path):
    """As on a Windows whose code page lacks the characters, with the output in a file."""
    file = tmp_path / "模型" / "pulid" / "pulid_flux_v0.9.1.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    result = subprocess.run(
        [sys.executable, ROOT / "pulid.py", "models", "--models", tmp_path / "模型"],
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=True,
    )
    assert rb"\u6a21\u578b" in result.stdout


def test_convert_needs_nothing_installed(tmp_path):
    """And tells what is lost."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)))
    result = run_convert(old, new)
    assert result.returncode == 0
    assert "2 of our nodes" in result.stdout
    assert "* PulidApplyFlux (node 6): the fusion mode auto_weight is gone." in result.stdout
    assert json.loads(new.read_text())["6"]["class_type"] == "PulidApplyFlux"


def test_convert_refuses_what_it_cannot_do(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("{}")
    good, absent = tmp_path / "good.json", tmp_path / "absent"
    good.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)))
    before = good.read_text()
    half = tmp_path / "half.json"
    half.write_text(before.replace("a.png", "\\ud83d"))
    for source, target, reason in (
        (old, new, "cannot be converted: A ComfyUI workflow"),
        (good, good, "overwrite"),
        (half, new, "surrogates not allowed"),
        (absent, new, "No such file"),
        (absent, good, "No such file"),
        (good, absent / "new.json", "No such file"),
        (good, tmp_path, "Is a directory"),
    ):
        result = run_convert(source, target)
        assert result.returncode == 1
        assert reason in result.stdout
    assert good.read_text() == before
    assert not new.exists()


def test_convert_reads_what_notepad_saved(tmp_path):
    """With a byte order mark."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(old_graphs.prompt(old_graphs.SIPIE)), encoding="utf-8-sig")
    assert run_convert(old, new).returncode == 0
    assert json.loads(new.read_bytes())["6"]["class_type"] == "PulidApplyFlux"


def test_convert_never_says_the_same_without_a_reason(tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps({"1": {"class_type": "NunchakuFluxPuLIDApplyV2", "inputs": {}}}))
    assert (
        "for a reason:\n* NunchakuFluxPuLIDApplyV2 (node 1) stays" in run_convert(old, new).stdout
    )
    old.write_text(json.dumps({"1": {"class_type": "LoadImage", "inputs": {}}}))
    assert "holds no node of the older PuLID-FLUX packs" in run_convert(old, new).stdout


def test_convert_takes_a_picture(tmp_path):
    old, new, info = tmp_path / "old.png", tmp_path / "new.json", PngInfo()
    info.add_text("prompt", json.dumps(old_graphs.prompt()))
    Image.new("RGB", (8, 8)).save(old, pnginfo=info)
    assert run_convert(old, new).returncode == 0
    assert json.loads(new.read_bytes())["6"]["class_type"] == "PulidApplyFlux"


def test_remote_reads_the_record_of_the_comfyui_around_it(tmp_path):
    """And deletes it there, not the one of plain Python."""
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "pulid-for-flux"
    shutil.copytree(ROOT / "pulid_core", pack / "pulid_core")
    shutil.copy(ROOT / "pulid.py", pack)
    command = [sys.executable, str(pack / "pulid.py"), "remote", "delete", "--yes"]
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "WAVESPEED_API_KEY": "not-asked"}
    done = subprocess.run(
        command, env=os.environ | home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Deleted" in done.stdout
    assert (tmp_path / "ComfyUI" / "user" / "__wavespeed_flux_pulid").is_dir()
    assert not (tmp_path / ".wavespeed_flux_pulid").exists()
