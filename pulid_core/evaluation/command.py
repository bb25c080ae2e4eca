"""`pulid.py evaluate`: paint people through fixed prompts, judge, and write one table and one sheet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..portraits.painting import SERVICE, Agreed, Say, add_painters, graph_of, paint_missing
from ..portraits.table import Portrait, portraits_of
from ..whole_file import write_whole
from .people import Person, fetch_list, read_people
from .prompts import GROUP_OF, PROMPTS, QUICK_PEOPLE, QUICK_PROMPTS
from .record import Record
from .table import table

if TYPE_CHECKING:
    from .judging import Judges, Sitter

RECORD, TABLE, SHEET, PHOTOS = "figures.jsonl", "table.md", "sheet.jpg", "photos"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pulid.py evaluate", description=__doc__)
    add = parser.add_argument
    add("people", type=Path, help="a folder of photos, or a text file of https addresses")
    judges = (
        "folders of face models, such as antelopev2 and auraface; the first one finds the faces"
    )
    add("--judges", type=Path, nargs="+", metavar="FOLDER", required=True, help=judges)
    add("--seeds", type=int, nargs="+", default=[1], help="one picture for each (default: 1)")
    add(
        "--quick",
        action="store_true",
        help=f"{QUICK_PEOPLE} people, {QUICK_PROMPTS} prompts a group",
    )
    add("--output", type=Path, default=Path("evaluation"), help="a folder")
    add_painters(parser)
    return parser


def run(options: argparse.Namespace, say: Say, agreed: Agreed) -> None:
    """Paint and judge as far as that is not done, and write table and sheet.

    Raises:
        PulidError: The photos, the judges, the graph or the servers cannot be used, or pictures are
            missing.
    """
    graph = graph_of(options)
    options.output.mkdir(parents=True, exist_ok=True)
    people = _people(options, say)
    from .judging import Judges, Sitter

    judges = Judges.load(options.judges)
    sitters = {person.reference: Sitter.of(person, judges) for person in people}
    most = QUICK_PROMPTS if options.quick else None
    prompts = [prompt for group in PROMPTS.values() for prompt in group[:most]]
    pictures = portraits_of(sitters, prompts, options.seeds, graph.text() if graph else SERVICE)
    painted = sum((options.output / one.file_name).exists() for one in pictures)
    say(
        f"{len(people)} people ({sum(bool(person.held_out) for person in people)} with held-out "
        f"photos) x {len(prompts)} prompts x {len(options.seeds)} seeds = {len(pictures)} pictures, "
        f"{painted} of which are painted already."
    )
    record = Record(options.output / RECORD)
    for outcome in paint_missing(pictures, graph, options, say, agreed):
        costs = {"seconds": outcome.seconds, "memory_bytes": outcome.memory_bytes}
        record.note(outcome.portrait.file_name, **costs)
    _judge(pictures, sitters, judges, options.output, record, say)
    _report(pictures, people, judges, options.output, record, say)


def _people(options: argparse.Namespace, say: Say) -> list[Person]:
    place = options.people
    if place.is_file():
        place = fetch_list(place, options.output / PHOTOS, say)
    people = sorted(read_people(place), key=lambda person: not person.held_out)
    return people[: QUICK_PEOPLE if options.quick else None]


def _judge(
    pictures: Sequence[Portrait],
    sitters: Mapping[Path, Sitter],
    judges: Judges,
    folder: Path,
    record: Record,
    say: Say,
) -> None:
    """Judge what was not judged by these judges from these photos."""
    from .judging import figures_of

    for number, picture in enumerate(pictures, start=1):
        sitter = sitters[picture.photo]
        if record.facts.get(picture.file_name, {}).get("judged") != sitter.digest:
            figures = figures_of(folder / picture.file_name, sitter, judges)
            record.note(picture.file_name, judged=sitter.digest, **figures)
            say(f"Judged {number} of {len(pictures)}: {picture}")


def _report(
    pictures: Sequence[Portrait],
    people: Sequence[Person],
    judges: Judges,
    folder: Path,
    record: Record,
    say: Say,
) -> None:
    """Write the table and the sheet, a row for each person and seed; scores are the last judge's."""
    from ..sheet.large_sheet import save_sheet

    facts = {picture: record.facts[picture.file_name] for picture in pictures}
    groups = {
        group: [fact for picture, fact in facts.items() if GROUP_OF[picture.prompt] == group]
        for group in PROMPTS
    }
    text = table(groups, judges.analysers)
    write_whole(folder / TABLE, text.encode(), overwrite=True)
    names = {person.reference: person.name for person in people}
    *_, judge = judges.analysers
    save_sheet(
        folder / SHEET,
        [folder / picture.file_name for picture in pictures],
        [f"{names[picture.photo]}, {GROUP_OF[picture.prompt]}" for picture in pictures],
        len(pictures) // len(people),
        [fact[judge]["reference"] if fact["face"] else 0.0 for fact in facts.values()],
    )
    say(f"\n{text}\nThe table is {folder / TABLE}; all pictures are on {folder / SHEET}.")
