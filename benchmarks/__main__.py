"""Run the benchmarks: `python benchmarks [NAME ...] [--comfyui FOLDER] [--models FOLDER] [--json FILE]`.

Prints a table and writes JSON. `dev.py bench` calls this with everything in place.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ("encode", "injection", "startup", "waiting", "portraits")
GPU = "gpu"


def main() -> None:
    """Run the benchmarks that were asked for, by default all but the one for a GPU."""
    choices = parse()
    if choices.pack:
        from gpu_pack import pack  # beside this file

        pack(ROOT, choices.comfyui, choices.pack, choices.python)
        return
    if choices.comfyui:
        import_comfyui(choices.comfyui, GPU not in choices.names, choices.dynamic)

    package = types.ModuleType("pulid_pack")  # ComfyUI, too, loads the folder under another name
    package.__path__ = [str(ROOT)]
    sys.modules["pulid_pack"] = package
    if GPU in choices.names:
        import_nodes_without_their_package()
        gpu = importlib.import_module("pulid_pack.benchmarks.gpu")
        machine, rows = gpu.describe_machine(), gpu.run(choices.small, choices.budget, choices.only)
    else:
        measure = importlib.import_module("pulid_pack.benchmarks.measure")
        machine, rows = measure.describe_machine(), measured(choices)
    report(rows, machine, choices.json)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (*BENCHMARKS, GPU)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--comfyui", type=Path, help="folder of ComfyUI, for FLUX")
    parser.add_argument(
        "--models",
        type=Path,
        default=ROOT / ".dev" / "stage" / "models",
        help="ComfyUI models folder, for the encoder; by default the tests' tiny one",
    )
    parser.add_argument("--json", type=Path, default=ROOT / ".dev" / "benchmarks.json")
    gpu = parser.add_argument_group("gpu")
    gpu.add_argument("--small", action="store_true", help="tiny, also on a CPU")
    gpu.add_argument(
        "--dynamic", action="store_true", help="with ComfyUI's dynamic VRAM, its default on NVIDIA"
    )
    gpu.add_argument("--budget", type=float, default=540, help="seconds after which no part begins")
    gpu.add_argument("--only", nargs="*", default=[], help="names of parts")
    gpu.add_argument("--pack", type=Path, help="make a folder for a machine without network")
    gpu.add_argument("--python", default="3.12", help="that machine's version, for --pack")
    choices = parser.parse_args()
    unknown = set(choices.names) - set(known)
    if unknown:
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}; choose of {known}")
    if GPU in choices.names and (len(choices.names) > 1 or not choices.comfyui):
        parser.error("gpu runs alone, and needs --comfyui")
    return choices


def measured(choices: argparse.Namespace) -> Iterable[Any]:
    """The rows of several benchmarks."""
    for name in choices.names or BENCHMARKS:
        yield from importlib.import_module(f"pulid_pack.benchmarks.{name}").run(choices.models)


def report(rows: Iterable[Any], machine: dict[str, str], file: Path) -> None:
    """Print a Markdown table line by line as it comes, and keep what is there in a file."""
    figures = []
    file.parent.mkdir(parents=True, exist_ok=True)
    say(", ".join(f"{key} {value}" for key, value in machine.items()) + "\n")
    say("| | ours | peer | peer / ours | spread |\n| --- | ---: | ---: | ---: | --- |")
    for row in rows:
        say(line(row))
        figures.append({**asdict(row), "ratio": row.ratio})
        file.write_text(json.dumps({"machine": machine, "rows": figures}, indent=2))


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(row: Any) -> str:
    """One line of the table."""
    peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.name} | {row.ours:.4g} {row.unit} | {peer} | {ratio} | {row.spread} |"


def import_nodes_without_their_package() -> None:
    """Make `nodes` importable: its __init__ needs ComfyUI's node API, which needs much more."""
    package = types.ModuleType("pulid_pack.nodes")
    package.__path__ = [str(ROOT / "nodes")]
    sys.modules["pulid_pack.nodes"] = package


def import_comfyui(folder: Path, on_cpu: bool, is_dynamic: bool) -> None:
    """Make ComfyUI importable, and set it up as its main.py does."""
    sys.path.insert(0, str(folder))
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    if is_dynamic:
        import comfy_aimdo.control

        comfy_aimdo.control.init()  # before torch
    import torch

    args.cpu = on_cpu or not torch.cuda.is_available()
    if is_dynamic:
        import comfy.memory_management  # after the choice of the device
        import comfy.model_management
        import comfy.model_patcher

        devices = comfy.model_management.get_all_torch_devices()
        if not comfy_aimdo.control.init_devices(device.index for device in devices):
            sys.exit("ComfyUI's dynamic VRAM does not work on this machine.")
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True


if __name__ == "__main__":
    main()
