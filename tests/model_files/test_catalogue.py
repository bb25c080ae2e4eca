"""The one list of model files, against everything else that names them."""

import ast
import json
import re
import subprocess
import sys

from pulid_pack.devtools.comfyui import ROOT
from pulid_pack.pulid_core.model_files.catalogue import (
    ALL_FILES,
    FACE_FILES,
    FLUX_FILES,
    HUB,
    PULID,
    SMALLER_FILES,
    models_table,
    size_text,
)

IN_WORKFLOWS = (*FACE_FILES, *FLUX_FILES)


def test_every_url_of_the_workflows_is_in_the_catalogue():
    """And every file of the catalogue in a workflow, but InsightFace's, which come as a pack, and
    those that may be chosen instead."""
    workflows = [json.loads(path.read_bytes()) for path in (ROOT / "workflows").glob("*.json")]
    entries = {
        (entry["name"], entry["url"], entry["directory"])
        for workflow in workflows
        for node in workflow["nodes"]
        for entry in node["properties"].get("models", [])
    }
    assert entries == {
        (file.name, file.url(HUB), file.folder) for file in IN_WORKFLOWS if not file.pack
    }


def test_the_tiny_stage_makes_every_file_where_it_belongs():
    tree = ast.parse((ROOT / "devtools/tiny_stage.py").read_text(encoding="utf-8"))
    (files,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "FILES"
    )
    assert isinstance(files, ast.Dict)
    names = {key.value for key in files.keys if isinstance(key, ast.Constant)}
    assert names == {f"{file.folder}/{file.name}" for file in IN_WORKFLOWS}


def test_the_page_holds_the_table():
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    table = page.partition("<!-- models -->\n\n")[2].partition("\n\n<!-- /models -->")[0]
    assert table == models_table()


def test_every_file_is_told_whole():
    for file in ALL_FILES:
        for told in (file.description, size_text(file.size), file.licence.name, file.source):
            assert told in file.summary
        assert file.licence.url.startswith("https://")
    restricted = {file.name for file in ALL_FILES if "non-commercial" in str(file.licence)}
    assert restricted == {
        *("parsing_bisenet.pth", "scrfd_10g_bnkps.onnx", "glintr100.onnx"),
        *("flux1-dev.safetensors", "flux1-dev-kontext_fp8_scaled.safetensors"),
        *("FLUX.1-dev-ControlNet-Union-Pro-2.0.safetensors", "flux_realism_lora.safetensors"),
        *(file.name for file in SMALLER_FILES if file.name.startswith("flux1-dev")),
    }
    assert [file.name for file in FLUX_FILES if file.is_gated] == ["flux1-dev.safetensors"]
    assert not any(file.is_gated for file in (*FACE_FILES, *SMALLER_FILES))


def test_what_decides_where_a_mirror_says_nothing_is_there():
    """An exact size, and a SHA-256 but for PuLID's own file, whose was not to be found."""
    for file in ALL_FILES:
        assert file.size_is_rounded == (file.size % 10**5 == 0)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256) or file.size_is_rounded or file is PULID


def test_the_catalogue_needs_nothing_installed(tmp_path):
    """Not even site-packages: the standard library alone."""
    (tmp_path / "models").mkdir()
    command = [sys.executable, "-I", "-S", str(ROOT / "pulid.py"), "models"]
    run = subprocess.run(
        [*command, "--comfyui", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.count("MISSING") == len(ALL_FILES)
