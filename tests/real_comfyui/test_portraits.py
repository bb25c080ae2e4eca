"""Many portraits on real ComfyUI servers, one of which is killed; and an evaluation on the tiny stage."""

import json
from collections import Counter

import pytest
from PIL import Image
from pulid_pack.devtools import portrait_workflow, waiting
from pulid_pack.devtools.workflow_conversion import to_prompt
from pulid_pack.pulid_core.evaluation import command as evaluation
from pulid_pack.pulid_core.portraits import comfyui, command
from pulid_pack.tests.real_comfyui.test_workflows import shrunk

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


def test_an_evaluation_on_the_tiny_stage(server, stage, demo_photo, tmp_path, monkeypatch):
    """The shared workflow paints every prompt; random weights paint no face, and the table says so."""
    monkeypatch.setattr(evaluation, "QUICK_PROMPTS", 1)
    prompt = shrunk(to_prompt(portrait_workflow.read(portrait_workflow.PATH), server.object_info()))
    (tmp_path / "graph.json").write_text(json.dumps(prompt))
    arguments = [demo_photo.parent, "--quick", "--graph", tmp_path / "graph.json"]
    arguments += ["--servers", server.url, "--output", tmp_path / "out"]
    arguments += ["--judges", stage / "insightface/models/antelopev2"]
    said = []
    options = evaluation.parser().parse_args(list(map(str, arguments)))
    evaluation.run(options, said.append, lambda: False)
    assert said[0].startswith(
        "1 people (0 with held-out photos) x 4 prompts x 1 seeds = 4 pictures"
    )
    table = (tmp_path / "out/table.md").read_text()
    assert "| all | 4 | 100.0% |" in table
    assert table.count("MiB") == 5
    assert (tmp_path / "out/sheet.jpg").exists()
