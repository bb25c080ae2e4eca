"""`list`, `collect` and `delete` on the command line: what was paid, and what this machine keeps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import PulidError
from .client import WavespeedClient
from .errors import JournalError
from .terminal import terminal_progress


def main(argv: list[str] | None = None, client: WavespeedClient | None = None) -> int:
    """Run one of the commands; returns the exit status.

    Args:
        client: Instead of one for the folder that --state names.
    """
    options = _parser().parse_args(argv)
    client = client or WavespeedClient(options.state)
    try:
        return options.run(client, options)
    except (PulidError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="remote", description="WaveSpeed's paid pictures.")
    parser.add_argument(
        "--state",
        type=Path,
        help="the folder of key and record; ComfyUI's is user/__wavespeed_flux_pulid "
        "(default: ~/.wavespeed_flux_pulid)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="what was ordered in the last 7 days")
    listing.set_defaults(run=_list)
    collecting = commands.add_parser("collect", help="fetch pictures by their ids, free of charge")
    collecting.add_argument("ids", nargs="+", metavar="ID")
    collecting.add_argument("--output", type=Path, default=Path(), help="a folder (default: here)")
    collecting.set_defaults(run=_collect)
    deleting = commands.add_parser("delete", help="delete pictures and record on this machine")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    deleting.set_defaults(run=_delete)
    return parser


def _list(client: WavespeedClient, _: argparse.Namespace) -> int:
    for item in client.list():
        cost = "cost unknown" if item.cost_usd is None else f"${item.cost_usd:.3f}"
        owner = "" if item.is_ours else "not ordered from here"
        line = (item.prediction_id, item.created_at, item.state, cost, item.url, owner)
        sys.stdout.write("  ".join(filter(None, line)) + "\n")
    return 0


def _collect(client: WavespeedClient, options: argparse.Namespace) -> int:
    for path in client.collect(options.ids, progress=terminal_progress).save(options.output):
        sys.stdout.write(f"{path}\n")
    return 0


def _delete(client: WavespeedClient, options: argparse.Namespace) -> int:
    """Delete what this machine keeps, after saying what is still open; the key file stays."""
    try:
        rows = client.open_jobs()
    except JournalError as error:
        sys.stdout.write(f"{error}\n")
        rows = []
    for row in rows:
        name = row.prediction_id or "an answer that was lost"
        sys.stdout.write(f"Still open: {name} ({row.state.value})\n")
    lead = f"{len(rows)} paid picture(s) would have to be collected by hand. " if rows else ""
    question = f"{lead}Delete pictures and record in {client.state_dir}? [y/N] "
    if not options.yes and input(question).strip().lower() not in ("y", "yes"):
        sys.stdout.write("Nothing was deleted.\n")
        return 1
    pictures = client.store.clear()
    client.journal.delete()
    sys.stdout.write(f"Deleted {pictures} file(s) of pictures, and the record.\n")
    return 0
