"""The demo, once everything is installed: the shared workflow in a real ComfyUI.

Started by `python dev.py demo`, which prepares what the arguments name.
"""

import argparse
import shutil
import sys
from pathlib import Path

import portrait_workflow
import registration
import tiny_stage
from comfyui import ComfyServer, Run, ServerError
from workflow_conversion import WorkflowError, to_prompt

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.pulid_core.errors import PulidError  # noqa: E402
from pulid_pack.pulid_core.face.analyser import FaceAnalyser  # noqa: E402
from pulid_pack.pulid_core.images import photo_from_file  # noqa: E402

RANDOM_WEIGHTS = """
The checkpoints are tiny and random: this shows the way from a photo to what the encoder sees, and that the whole
graph runs here. It paints nobody; for that, add --models with a ComfyUI models folder that holds the real files.
"""


class DemoError(Exception):
    """The demo did not come to its picture; the text says why."""


class Progress:
    """One line that says which node runs and how far it is."""

    def __init__(self, prompt: dict[str, dict]):
        self._prompt = prompt
        self._seen: set[str] = set()

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "executing" and data["node"]:
            self._show(data["node"], 0, 1)
        elif kind == "progress" and data.get("node"):
            self._show(data["node"], data["value"], data["max"])
        elif kind == "progress_text":
            say(f"\r{'':5} {data['text']:60}", end="")

    def _show(self, node: str, value: float, maximum: float) -> None:
        self._seen.add(node)
        done = (len(self._seen) - 1 + value / maximum) / len(self._prompt)
        name = self._prompt[node]["class_type"]
        steps = f" {value:.0f}/{maximum:.0f}" if maximum > 1 else ""
        say(f"\r{done:4.0%}  {name + steps:40}", end="")

    def close(self) -> None:
        say(f"\r{'':70}\r", end="")


def run_demo(options: argparse.Namespace) -> None:
    """Run the workflow and copy its pictures to the output folder."""
    if options.stage:
        say(RANDOM_WEIGHTS)
    options.base.mkdir(parents=True, exist_ok=True)
    photo = options.photo or tiny_stage.demo_photo(options.base / "portrait.png")
    models = options.models or options.stage
    refuse_without_face(photo, models)
    say(f"Starting ComfyUI (log: {options.base / 'comfyui.log'}) ...")
    with ComfyServer(options.comfyui, options.base, models) as server:
        workflow = portrait_workflow.load(server.upload_image(photo), options.prompt)
        prompt = to_prompt(workflow, server.object_info())
        progress = Progress(prompt)
        say(f"Running {portrait_workflow.PATH.name} with {photo} ...")
        run = server.run(prompt, timeout_s=3600, on_event=progress)
        progress.close()
    refuse_failure(run)
    report(run, prompt, options)


def refuse_without_face(photo: Path, models: Path) -> None:
    """Look for a face before ComfyUI starts, which takes minutes, and say what was found."""
    folder = models / "insightface" / "models" / "antelopev2"
    if not folder.is_dir():
        return  # named in extra_model_paths.yaml, maybe; ComfyUI will say
    faces = FaceAnalyser(folder).find(photo_from_file(photo))
    if not faces:
        raise DemoError(
            f"No face was found on {photo}. Use a photo with a face at least about 100 px wide, "
            "upright and unobstructed."
        )
    say(f"{len(faces)} face(s) found on {photo}.")


def refuse_failure(run: Run) -> None:
    if run.error is None:
        return
    lines = [f"ComfyUI says: {run.error.message}"]
    if run.error.node_type:
        lines[0] = f"{run.error.node_type} says: {run.error.message}"
    for refusal in run.node_errors.values():
        lines += [f"{refusal['class_type']}: {error['details']}" for error in refusal["errors"]]
    raise DemoError("\n".join(lines))


def report(run: Run, prompt: dict[str, dict], options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    say(f"Done in {run.seconds:.0f} s.")
    told = {"PulidApplyFlux": ("face", "The face, and what the encoder saw of it")}
    if options.models:  # random weights paint noise
        told["SaveImage"] = ("picture", "The picture")
    for node, pictures in run.images.items():
        if prompt[node]["class_type"] in told:
            name, label = told[prompt[node]["class_type"]]
            copy = shutil.copy(pictures[0], options.output / f"{name}{pictures[0].suffix}")
            say(f"{label}: {copy}")
    say(f"The graph: {portrait_workflow.PATH}; drag it into ComfyUI's window.")


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)  # noqa: T201 - this is what the demo is for


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser()
    for name in ("comfyui", "base", "output"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    for name in ("stage", "models", "photo"):
        arguments.add_argument(f"--{name}", type=Path)
    arguments.add_argument("--prompt")
    return arguments


def main() -> int:
    try:
        run_demo(parser().parse_args())
    except (DemoError, ServerError, WorkflowError, PulidError) as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
