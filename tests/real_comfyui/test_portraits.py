"""Many portraits on real ComfyUI servers, one of which is killed."""

import json
from collections import Counter

import pytest
from PIL import Image
from pulid_pack.devtools import waiting
from pulid_pack.pulid_core.portraits import comfyui, command

SEEDS = range(6)


@pytest.mark.timeout(180)
def test_killing_a_server_loses_nothing_and_repeats_nothing_finished(
    comfyui_dir, tmp_path, stage, monkeypatch
):
    """And what stood in the killed one's queue is painted by the other."""
    monkeypatch.setattr(comfyui.ComfyUI.__init__, "__defaults__", (1.0,))  # its patience
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "anna.png")
    rows = [f",,{seed}" for seed in SEEDS]
    table = "\n".join(["person,prompt,seed", "anna.png,a portrait,", *rows])
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "graph.json").write_text(json.dumps(waiting.graph(1.0)))
    said = []
    with waiting.servers(2, comfyui_dir, tmp_path, stage) as (killed, other):

        def say(line: str) -> None:
            said.append(line)
            if f":{killed.port})" in line:  # its first is here, and its second has begun
                killed.kill()

        arguments = [tmp_path / "table.csv", "--graph", tmp_path / "graph.json"]
        arguments += ["--prompt", "2.text", "--seed", "2.seed", "--output", tmp_path / "out"]
        arguments += ["--servers", killed.url, other.url]
        options = command.parser().parse_args(list(map(str, arguments)))
        command.run(options, say, lambda: False)
        done = Counter(waiting.finished(killed) + waiting.finished(other))
        assert len(waiting.finished(killed)) == 1
    assert done == Counter(f"a portrait {seed}" for seed in SEEDS)
    pictures = list((tmp_path / "out").glob("anna-*.png"))
    assert len({Image.open(path).getpixel((0, 0)) for path in pictures}) == len(SEEDS)
    assert sum("does not answer" in line for line in said) == 1
    assert (tmp_path / "out/sheet.jpg").exists()
