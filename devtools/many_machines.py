"""The pack under the real ComfyUI-Distributed: one master, two workers of other folders, and the stand-in.

    python devtools/many_machines.py [--pack FOLDER] [--comfyui FOLDER]

Without --pack that pack is cloned from GitHub into .dev. Each worker stands for another machine: it has the
model files, and none of the master's pictures. Everything samples the tests' tiny models.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from contextlib import ExitStack
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

Prompt = dict[str, dict]


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


def card_of(master: ComfyServer, prompt: Prompt) -> Prompt:
    """The portrait graph with a person's card in place of the photo; the card lies on the master alone."""
    loader, photo = only(prompt, "PulidLoader"), only(prompt, "LoadImage")
    encode = node(master, "PulidEncodeIdentity", pulid=[loader, 0], image=[photo, 0])
    save = node(master, "PulidSaveIdentity", identity=["encode", 0], name="ann", save_as="card")
    sources = {key: prompt[key] for key in (loader, photo)}
    made = master.run(sources | {"encode": encode, "save": save})
    if made.error:
        raise SystemExit(f"The card was not made: {made.error.message} {made.node_errors}")
    card = Path(made.outputs["save"]["text"][0]).name
    load = {"class_type": "PulidLoadIdentity", "inputs": {"image": f"pulid_identities/{card}"}}
    prompt = copy.deepcopy(prompt) | {"card": load}
    prompt[only(prompt, "PulidApplyFlux")]["inputs"]["reference"] = ["card", 0]
    del prompt[photo]
    return prompt


def try_all(master: ComfyServer, service: Standin) -> list[tuple[str, bool, str]]:
    """Each claim, whether it holds, and what was seen."""
    info = master.object_info()
    photo = to_prompt(portrait_workflow.load(), info)
    hosted = to_prompt(portrait_workflow.load(path=portrait_workflow.REMOTE_PATH), info)
    results = []
    for claim, prompt in (
        ("a photo is painted by master and both workers", photo),
        ("a card is painted by master and both workers", card_of(master, photo)),
    ):
        count, told = run(master, distributed(prompt))
        results.append((claim, count == 1 + len(WORKERS), f"{count} pictures {told}"))
    count, told = run(master, distributed(hosted))
    refused = not count and "every machine would order and pay" in told
    results.append(
        ("the remote node before the collector pays nothing, and says why", refused, told)
    )
    results.append(("nothing was paid", service.paid == 0, f"{service.paid} paid"))
    return results


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
        master, *workers = (
            stack.enter_context(
                ComfyServer(
                    comfyui, base / name, stage, packs=(ROOT, COMFY_PACK, pack), cpu=True,
                    environment=service.environment(),
                )
            )
            for name in ("master", *WORKERS)
        )  # fmt: skip
        known = [
            {"id": name, "name": name, "host": "127.0.0.1", "port": worker.port, "type": "remote"}
            for name, worker in zip(WORKERS, workers, strict=True)
        ]
        settings = master.base_dir / "custom_nodes" / pack.name / "gpu_config.json"
        settings.write_text(json.dumps({"workers": [one | {"enabled": True} for one in known]}))
        master.upload_image(tiny_stage.demo_photo(base / "portrait.png"))
        results = try_all(master, service)
    for claim, holds, seen in results:
        print(f"{'ok    ' if holds else 'FAILED'} {claim}: {seen}")  # noqa: T201
    return 0 if all(holds for _, holds, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
