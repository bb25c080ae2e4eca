"""The pack under the real ComfyUI-Distributed: one master, two workers of other folders, and the stand-in.

    python devtools/many_machines.py [--pack FOLDER] [--comfyui FOLDER]

Without --pack that pack is cloned from GitHub into .dev. Each worker stands for another machine: it has the
model files, and none of the master's pictures; then something is taken from one of them. Everything samples the tests' tiny models.
"""

import argparse
import copy
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import registration
import requests

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.devtools import comfyui_source, portrait_workflow, tiny_stage  # noqa: E402
from pulid_pack.devtools.comfyui import ROOT, ComfyServer, inputs_of  # noqa: E402
from pulid_pack.devtools.wavespeed_standin import COMFY_PACK, Standin  # noqa: E402
from pulid_pack.devtools.workflow_conversion import to_prompt  # noqa: E402

CACHE = ROOT / ".dev"
SOURCE, COMMIT = (
    "https://github.com/robertvoy/ComfyUI-Distributed",
    "a91f9fb081eb5fc27db429a7c3f35d2ef7ce4a50",
)
NAME = "ComfyUI-Distributed"
WORKERS = ("one", "two")
SMALL = {
    "EmptySD3LatentImage": {"width": 64, "height": 64},
    "KSampler": {"steps": 2},
    "WavespeedFluxPulidRemote": {"size": "256*256"},
}
END_S = 300

WAIT_S = 6  # for a worker's pictures, as that pack's own panel sets it

Prompt = dict[str, dict]
Result = tuple[str, bool, str]
"""A claim, whether it holds, and what was seen."""


def fetched(folder: Path) -> Path:
    """The pack at the commit that was tried, cloned if it is not there."""
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", SOURCE, str(folder)], check=True)  # noqa: S607
        subprocess.run(["git", "checkout", "-q", COMMIT], cwd=folder, check=True)  # noqa: S607
    return folder


def only(prompt: Prompt, kind: str) -> str:
    """The one node of a type."""
    (key,) = (key for key, node in prompt.items() if node["class_type"] == kind)
    return key


def distributed(prompt: Prompt) -> Prompt:
    """The user's graph with that pack's collector before the saved picture, and its seed if it samples."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        node["inputs"] |= SMALL.get(node["class_type"], {})
        if node["class_type"] == "KSampler":
            prompt = prompt | {"seed": {"class_type": "DistributedSeed", "inputs": {"seed": 5}}}
            node["inputs"]["seed"] = ["seed", 0]
    save = prompt[only(prompt, "SaveImage")]["inputs"]
    collect = {"images": save["images"], "load_balance": False}
    save["images"] = ["collector", 0]
    return prompt | {"collector": {"class_type": "DistributedCollector", "inputs": collect}}


def run(master: ComfyServer, prompt: Prompt) -> tuple[int, str]:
    """Queue a graph as that pack's window does; returns how many pictures came, and what was said."""
    body = {"prompt": prompt, "client_id": "devtools", "enabled_worker_ids": list(WORKERS)}
    answer = requests.post(f"{master.url}/distributed/queue", json=body, timeout=120)
    if not answer.ok:
        return 0, answer.text
    number = answer.json()["prompt_id"]
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        entry = requests.get(f"{master.url}/history/{number}", timeout=20).json().get(number)
        if entry:
            saved = entry["outputs"].get(only(prompt, "SaveImage"), {}).get("images", [])
            told = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
            return len(saved), told[0]["exception_message"].strip() if told else ""
        time.sleep(0.5)
    return 0, f"no end after {END_S} s"


def node(master: ComfyServer, kind: str, **inputs: object) -> dict:
    """A node with the defaults of whatever is not given."""
    known = inputs_of(master.object_info(kind)[kind]).items()
    defaults = {name: spec[1]["default"] for name, spec in known if "default" in spec[-1]}
    return {"class_type": kind, "inputs": defaults | inputs}


def saved_of(master: ComfyServer, prompt: Prompt, save_as: str) -> Prompt:
    """The portrait graph with a saved person in place of the photo; the file lies on the master alone."""
    loader, photo = only(prompt, "PulidLoader"), only(prompt, "LoadImage")
    encode = node(master, "PulidEncodeIdentity", pulid=[loader, 0], image=[photo, 0])
    save = node(master, "PulidSaveIdentity", identity=["encode", 0], name="ann", save_as=save_as)
    sources = {key: prompt[key] for key in (loader, photo)}
    made = master.run(sources | {"encode": encode, "save": save})
    if made.error:
        raise SystemExit(f"The person was not saved: {made.error.message} {made.node_errors}")
    name = Path(made.outputs["save"]["text"][0]).name
    image = f"pulid_identities/{name}" if save_as == "card" else name
    load = {"class_type": "PulidLoadIdentity", "inputs": {"image": image}}
    prompt = copy.deepcopy(prompt) | {"card": load}
    prompt[only(prompt, "PulidApplyFlux")]["inputs"]["reference"] = ["card", 0]
    del prompt[photo]
    return prompt


def try_all(master: ComfyServer, service: Standin, models: Path) -> list[Result]:
    """Try each claim.

    Args:
        models: Of the second worker alone; its files are as before at the end.
    """
    info = master.object_info()
    photo = to_prompt(portrait_workflow.load(), info)
    hosted = to_prompt(portrait_workflow.load(path=portrait_workflow.REMOTE_PATH), info)
    results = []
    for claim, prompt in (
        ("a photo is painted by master and both workers", photo),
        ("a card is painted by master and both workers", saved_of(master, photo, "card")),
    ):
        count, told = run(master, distributed(prompt))
        results.append((claim, count == 1 + len(WORKERS), f"{count} pictures {told}"))
    count, told = run(master, distributed(hosted))
    refused = not count and "every machine would order and pay" in told
    results.append(
        ("the remote node before the collector pays nothing, and says why", refused, told)
    )
    results.append(("nothing was paid", service.paid == 0, f"{service.paid} paid"))
    return results + try_lacks(master, photo, models)


def try_lacks(master: ComfyServer, photo: Prompt, models: Path) -> list[Result]:
    """Take something from a worker, and look at what the master's user is told."""
    results = []
    pulid = models / "pulid" / "pulid_flux_v0.9.1.safetensors"
    flux = models / "diffusion_models" / "flux1-dev.safetensors"
    for what, file, prompt, words in (
        ("person", None, saved_of(master, photo, "safetensors"), "This identity is not there"),
        ("PuLID file", pulid, photo, f"Worker two on {platform.node()}: Model files are needed"),
        ("FLUX file", flux, photo, f"'{flux.name}' not in"),
    ):
        with away(file) if file else nullcontext():
            count, told = run(master, distributed(prompt))
        seen = told[told.find(words) :][:100] if words in told else told
        results.append((f"a {what} that a worker lacks is named", words in told, seen))
    with away(pulid):
        pulid.write_bytes(b"cut in the middle")
        count, _ = run(master, distributed(photo))
        pulid.unlink()
    words = "Worker two gave no picture. PulidLoader: "
    lines = [line for line in master.log_text().splitlines() if words in line]
    claim = "what fails on a worker later is told by name, and the others' pictures come"
    results.append((claim, count == len(WORKERS) and bool(lines), f"{count} pictures; {lines}"))
    return results


@contextmanager
def away(file: Path) -> Iterator[None]:
    """Keep a file under another name for a while."""
    hidden = file.with_name(f"{file.name}.away")
    file.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(file)


def main() -> int:
    """Start all of them, and print a line for each claim."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pack", type=Path, help=f"a folder of {NAME}; else cloned")
    arguments.add_argument("--comfyui", type=Path, help="ComfyUI's folder; else the newest tested")
    options = arguments.parse_args()
    pack = options.pack or fetched(CACHE / NAME)
    comfyui = options.comfyui or comfyui_source.provide(
        comfyui_source.NEWEST, CACHE / "comfyui", tiny_t5=True
    )
    stage = tiny_stage.make_stage(CACHE / "stage" / "models")
    base = CACHE / "distributed"
    with ExitStack() as stack:
        service = stack.enter_context(Standin(key="standin-key-of-the-master"))
        own = base / "models-of-two"
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(stage, own, copy_function=os.link)
        master, *workers = (
            stack.enter_context(
                ComfyServer(
                    comfyui, base / name, models, packs=(ROOT, COMFY_PACK, pack), cpu=True,
                    environment=service.environment(),
                )
            )
            for name, models in zip(("master", *WORKERS), (stage, stage, own), strict=True)
        )  # fmt: skip
        known = [
            {"id": name, "name": name, "host": "127.0.0.1", "port": worker.port, "type": "remote"}
            for name, worker in zip(WORKERS, workers, strict=True)
        ]
        settings = master.base_dir / "custom_nodes" / pack.name / "gpu_config.json"
        workers = [one | {"enabled": True} for one in known]
        kept = {"workers": workers, "settings": {"worker_timeout_seconds": WAIT_S}}
        settings.write_text(json.dumps(kept))
        master.upload_image(tiny_stage.demo_photo(base / "portrait.png"))
        results = try_all(master, service, own)
    for claim, holds, seen in results:
        print(f"{'ok    ' if holds else 'FAILED'} {claim}: {seen}")  # noqa: T201
    return 0 if all(holds for _, holds, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
