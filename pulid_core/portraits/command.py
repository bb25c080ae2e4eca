"""`pulid.py portraits`: say what will be painted, paint it, and put all on one sheet."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .painting import SERVICE, Say, add_painters, graph_of, paint, painters_of
from .table import portraits_of, read_table

SHEET = "sheet.jpg"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pulid.py portraits", description=__doc__)
    parser.add_argument("table", type=Path, help="CSV with the columns person, prompt and seed")
    parser.add_argument("--output", type=Path, default=Path("portraits"), help="a folder")
    add_painters(parser)
    return parser


def run(options: argparse.Namespace, say: Say, agreed: Callable[[], bool]) -> None:
    """Paint every person with every prompt and seed, as far as that is not done, and draw the sheet.

    Raises:
        PulidError: The table, the graph or the servers cannot be used, or portraits are missing.
    """
    people, prompts, seeds = read_table(options.table)
    graph = graph_of(options)
    portraits = portraits_of(people, prompts, seeds, graph.text() if graph else SERVICE)
    files = {one: options.output / one.file_name for one in portraits}
    missing = [one for one, file in files.items() if not file.exists()]
    say(
        f"{len(people)} people x {len(prompts)} prompts x {len(seeds)} seeds = {len(portraits)} "
        f"portraits, {len(portraits) - len(missing)} of which are painted already."
    )
    try:
        if missing:
            painters = painters_of(options, graph, len(missing), say, agreed)
            for _ in paint(missing, painters, options.output, say):
                pass
    finally:
        if there := {one: file for one, file in files.items() if file.exists()}:
            from ..sheet.large_sheet import save_sheet

            sheet = options.output / SHEET
            per_person = len(prompts) * len(seeds)
            save_sheet(sheet, list(there.values()), list(map(str, there)), per_person)
            say(f"{len(there)} portraits lie in {options.output}, all together on {SHEET}.")
