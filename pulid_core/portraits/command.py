"""`pulid.py portraits`: say what will be painted, paint it, and put all on one sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from .painting import SERVICE, Agreed, Say, add_painters, graph_of, paint_missing
from .table import portraits_of, read_table

SHEET = "sheet.jpg"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pulid.py portraits", description=__doc__)
    parser.add_argument("table", type=Path, help="CSV with the columns person, prompt and seed")
    parser.add_argument("--output", type=Path, default=Path("portraits"), help="a folder")
    add_painters(parser)
    return parser


def run(options: argparse.Namespace, say: Say, agreed: Agreed) -> None:
    """Paint every person with every prompt and seed, as far as that is not done, and draw the sheet.

    Raises:
        PulidError: The table, the graph or the servers cannot be used, or portraits are missing.
    """
    people, prompts, seeds = read_table(options.table)
    graph = graph_of(options)
    portraits = portraits_of(people, prompts, seeds, graph.text() if graph else SERVICE)
    files = {one: options.output / one.file_name for one in portraits}
    painted = sum(file.exists() for file in files.values())
    say(
        f"{len(people)} people x {len(prompts)} prompts x {len(seeds)} seeds = {len(portraits)} "
        f"portraits, {painted} of which are painted already."
    )
    try:
        for _ in paint_missing(portraits, graph, options, say, agreed):
            pass
    finally:
        if there := {one: file for one, file in files.items() if file.exists()}:
            from ..sheet.large_sheet import save_sheet

            columns = len(prompts) * len(seeds)
            save_sheet(options.output / SHEET, [*there.values()], [*map(str, there)], columns)
            say(f"{len(there)} portraits lie in {options.output}, all together on {SHEET}.")
