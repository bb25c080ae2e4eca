"""Run the benchmarks: `python benchmarks [NAME ...] [--comfyui FOLDER] [--models FOLDER] [--json FILE]`.

Prints a table and writes JSON. `dev.py bench` calls this with everything in place.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ("encode", "injection")


def main() -> None:
    """Run the benchmarks that were asked for, by default all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--comfyui", type=Path, help="folder of ComfyUI, for the slice of FLUX")
    parser.add_argument(
        "--models",
        type=Path,
        default=ROOT / ".dev" / "stage" / "models",
        help="ComfyUI models folder, for the encoder; by default the tests' tiny one",
    )
    parser.add_argument("--json", type=Path, default=ROOT / ".dev" / "benchmarks.json")
    choices = parser.parse_args()
    unknown = set(choices.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark called {', '.join(sorted(unknown))}; choose of {BENCHMARKS}")
    if choices.comfyui:
        import_comfyui(choices.comfyui)

    pack = types.ModuleType("pulid_pack")  # ComfyUI, too, loads the folder under a name of its own
    pack.__path__ = [str(ROOT)]
    sys.modules["pulid_pack"] = pack
    measure = importlib.import_module("pulid_pack.benchmarks.measure")
    rows: list[Any] = []
    for name in choices.names or BENCHMARKS:
        rows += importlib.import_module(f"pulid_pack.benchmarks.{name}").run(choices.models)
    machine = measure.describe_machine()
    sys.stdout.write(table(rows, machine))
    choices.json.parent.mkdir(parents=True, exist_ok=True)
    figures = [{**asdict(row), "ratio": row.ratio} for row in rows]
    choices.json.write_text(json.dumps({"machine": machine, "rows": figures}, indent=2))


def import_comfyui(folder: Path) -> None:
    """Make ComfyUI importable, on the CPU."""
    sys.path.insert(0, str(folder))
    from comfy.cli_args import args

    args.cpu = True


def table(rows: list[Any], machine: dict[str, str]) -> str:
    """Lay the rows out as a Markdown table below a line about the machine."""
    lines = [", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    lines += ["| | ours | peer | peer / ours | spread |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(
            f"| {row.name} | {row.ours:.4g} {row.unit} | {peer} | {ratio} | {row.spread} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
