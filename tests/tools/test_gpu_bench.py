"""`bench gpu`: its small run, from the folder that is packed for a machine without network."""

import json
import subprocess
import sys
import tarfile

import pytest
from registration import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import gpu_pack

PARTS = {
    "folding": "folding one person",
    "steps": "added to a step, 2 people with a mask each",
    "blocks": "2 people, single block",
    "fp8": "step with one person and with nobody, fp8 weights",
    "memory": "memory after 4 prompts, against half as many",
    "parity": "attention against float64, bfloat16, cpu",
    "batches": "added to a step, 2 people, batch 2",
    "encoding": "identity tokens against the CPU's, float32",
    "compiled": "compiled against eager, 1 person",
}
"""A row of each part that runs without a GPU."""


@pytest.mark.slow
def test_small_run_of_the_packed_folder(comfyui_dir, tmp_path, monkeypatch):
    """What is packed is complete, and no part fails."""
    monkeypatch.setattr(gpu_pack, "download_wheels", lambda *_: None)  # the machine here has them
    gpu_pack.pack(ROOT, comfyui_dir, tmp_path / "folder", "3.12")
    for name in ("comfyui", "repository"):
        with tarfile.open(tmp_path / "folder" / f"{name}.tar.xz") as tar:
            tar.extractall(tmp_path / name, filter="data")
    figures = tmp_path / "gpu.json"
    command = [sys.executable, "-W", "ignore", str(tmp_path / "repository/benchmarks"), "gpu"]
    command += ["--small", "--comfyui", str(tmp_path / "comfyui"), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(figures.read_text())["rows"]}
    assert [name for name in PARTS.values() if name not in rows] == []
    assert not [name for name in rows if "FAILED" in name], done.stderr
    assert rows["attention against float64, bfloat16, cpu"]["ratio"] > 1
    assert rows["compiled against eager, 1 person"]["ours"] == 0


def test_a_run_out_of_time_says_so(comfyui_dir, tmp_path):
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks"), "gpu", "--small"]
    command += ["--budget=-1", "--only", "steps", "--comfyui", str(comfyui_dir)]
    command += ["--json", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| steps: left out |" in done.stdout
