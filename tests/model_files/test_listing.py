"""`pulid.py models` without names: which files are there, and where."""

import shutil
import subprocess
import sys
from itertools import pairwise

from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.pulid_core.model_files.catalogue import (
    ALL_FILES,
    FACE_FILES,
    FACE_RECOGNISER,
    PULID,
)
from pulid_pack.pulid_core.model_files.finder import FoldersOnDisk, find


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(output):
    """Paths told as found, by the file that stands above them."""
    lines = output.splitlines()
    return {
        above.split()[0]: line.split(maxsplit=1)[1]
        for above, line in pairwise(lines)
        if line.startswith("    found")
    }


def test_nothing_found(run):
    output = run().stdout
    assert found(output) == {}
    assert "PuLID lacks 5 of its files" in output
    for file in ALL_FILES:
        for told in (file.name, file.source, str(file.licence)):
            assert told in output


def test_everything_found(run, comfyui):
    paths = {
        file.name: str(touch(comfyui / "models" / file.folder / file.name)) for file in ALL_FILES
    }
    output = run().stdout
    assert found(output) == paths
    assert "PuLID has all its files" in output
    assert "MISSING" not in output
    assert "Nothing to download" in run("missing", "flux1-dev.safetensors").stdout


def test_some_found_by_the_rules_of_the_nodes(run, comfyui, tmp_path):
    """An older PuLID, EVA-CLIP among the text encoders, antelopev2 unpacked into its own folder."""
    shared = tmp_path / "shared"
    older = touch(comfyui / "models/pulid/sub/pulid_flux_v0.9.0.safetensors")
    eva = touch(shared / "encoders/EVA02_CLIP_L_336_psz14_s6B.pt")
    pack = comfyui / "models/insightface/models/antelopev2/antelopev2"
    detector = touch(pack / "scrfd_10g_bnkps.onnx")
    vae = touch(comfyui / "relative/ae.safetensors")
    (comfyui / "extra_model_paths.yaml").write_text(
        f"one:\n  base_path: {shared}\n  clip: |\n    encoders\n    absent\n"
        "two:\n  is_default: true\n  vae: relative\nnone:\n",
        encoding="utf-8",
    )
    output = run().stdout
    assert found(output) == {
        "pulid_flux_v0.9.1.safetensors": str(older),
        "EVA02_CLIP_L_336_psz14_s6B.pt": str(eva),
        "scrfd_10g_bnkps.onnx": str(detector),
        "ae.safetensors": str(vae),
    }
    assert "PuLID lacks 2 of its files" in output
    plan = run("missing").stdout
    assert f"to {pack / 'glintr100.onnx'}" in plan
    assert "parsing_bisenet.pth" in plan
    assert "pulid_flux" not in plan
    assert (
        "to " + str(comfyui / "models/pulid/pulid_flux_v0.9.1.safetensors")
        in run("pulid_flux_v0.9.1.safetensors").stdout
    )


def test_the_files_of_other_models_are_not_taken(comfyui, monkeypatch):
    """FLUX.2's PuLID, and what lies in the current directory where no face pack is."""
    folders = FoldersOnDisk(comfyui / "models")
    for name in ("pulid_flux2_klein_v2.safetensors", FACE_RECOGNISER.name):
        touch(comfyui / "models/pulid" / name)
    monkeypatch.chdir(comfyui / "models/pulid")
    assert find(PULID, folders) is None
    assert find(FACE_RECOGNISER, folders) is None
    other = touch(comfyui / "models/pulid/PuLID_FLUX_v0.9.2.safetensors")
    assert find(PULID, folders) == other


def test_a_broken_extra_model_paths_is_told(run, comfyui):
    for text in ("a: [", "just text", "a:\n  vae: 3\n"):
        (comfyui / "extra_model_paths.yaml").write_text(text, encoding="utf-8")
        result = run()
        assert result.returncode == 1
        assert "extra_model_paths.yaml.example" in result.stdout


def test_without_pyyaml_one_line_says_so(comfyui):
    (comfyui / "extra_model_paths.yaml").write_text("a:\n  vae: elsewhere\n", encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(ROOT / "pulid.py"), "models"]
    result = subprocess.run(
        [*command, "--comfyui", str(comfyui)], capture_output=True, text=True, check=True
    )
    assert "needs the Python package PyYAML" in result.stdout.splitlines()[0]
    assert "PuLID lacks" in result.stdout


def test_the_pack_in_custom_nodes_knows_its_comfyui(comfyui):
    """As the registry installs it, without the developers' files."""
    pack = comfyui / "custom_nodes" / "pulid-for-flux"
    shutil.copytree(ROOT / "pulid_core", pack / "pulid_core")
    shutil.copy(ROOT / "pulid.py", pack)
    parser = touch(comfyui / "models/facexlib/parsing_bisenet.pth")
    command = [sys.executable, "-I", "-S", str(pack / "pulid.py")]
    listed = subprocess.run([*command, "models"], capture_output=True, text=True, check=True)
    assert found(listed.stdout) == {"parsing_bisenet.pth": str(parser)}


def test_elsewhere_comfyui_has_to_be_named(tmp_path):
    pack = tmp_path / "pack"
    shutil.copytree(ROOT / "pulid_core", pack / "pulid_core")
    shutil.copy(ROOT / "pulid.py", pack)
    command = [sys.executable, "-I", "-S", str(pack / "pulid.py"), "models"]
    for arguments, told in (
        ([], "name ComfyUI's folder"),
        (["--comfyui", "absent"], "should be a folder"),
        (["--models", "absent"], "should be a folder"),
    ):
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert told in result.stdout
    models = tmp_path / "models"
    paths = {file.name: str(touch(models / file.folder / file.name)) for file in FACE_FILES}
    listed = subprocess.run(
        [*command, "--models", models], capture_output=True, text=True, check=True
    )
    assert found(listed.stdout) == paths


def test_an_unknown_name_lists_the_known_ones(run):
    for name in ("pulid.bin", "all"):
        result = run(name)
        assert result.returncode == 1
        assert f"{name} is no model file" in result.stdout
    for file in ALL_FILES:
        assert file.name in result.stdout
