"""Who paints, for what money; and from missing portraits to files."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import importing
from ..whole_file import write_whole
from .comfyui import ComfyUI
from .errors import PortraitsError
from .graph import PAID_NODE, PLACES, Graph
from .table import Portrait
from .wavespeed import Wavespeed

if TYPE_CHECKING:
    from .engine import Outcome

LOCAL_SERVER = "http://127.0.0.1:8188"
SERVICE = "wavespeed"

Say = Callable[[str], object]
Agreed = Callable[[], bool]


def add_painters(parser: ArgumentParser) -> None:
    """Describe the options that say who paints, and where to."""
    add = parser.add_argument
    add("--graph", type=Path, help="your workflow, by Export (API) or as a PNG that it saved")
    servers = f"ComfyUI servers, or {SERVICE} (default: {LOCAL_SERVER})"
    add("--servers", nargs="+", metavar="ADDRESS", default=[LOCAL_SERVER], help=servers)
    for name in PLACES:
        add(f"--{name}", metavar="NODE.INPUT", help=f"where the {name} goes in the graph")
    add("--max-cost", type=float, default=0.5, help=f"US dollars at {SERVICE} (default: 0.5)")
    add("--state", type=Path, help=f"folder of {SERVICE}'s key and record")
    add("--yes", action="store_true", help="pay without asking")


def graph_of(options: Namespace) -> Graph | None:
    """The user's graph; None where the service needs none.

    Raises:
        PortraitsError: There is none, or it would pay once per server.
    """
    if options.servers == [SERVICE]:
        return None
    if options.graph is None:
        raise PortraitsError("A workflow was wanted, but --graph is missing: see Export (API).")
    graph = Graph.read(options.graph, vars(options))
    if graph.price_usd and len(options.servers) > 1:
        raise PortraitsError(
            f"One record of what was paid was wanted, but {len(options.servers)} servers keep one "
            f"each, and a portrait that moves to another would be paid twice. Use --servers "
            f"{SERVICE}, or one server for a graph with {PAID_NODE}."
        )
    return graph


def paint_missing(
    portraits: Sequence[Portrait], graph: Graph | None, options: Namespace, say: Say, agreed: Agreed
) -> Iterator[Outcome]:
    """Paint what is not there into the output folder, with a line for each; yields those that came.

    Says what it costs, and asks before money is spent.

    Raises:
        MissingDependencyError: Dask is not installed.
        PortraitsError: It would cost more than allowed, nobody agreed, or some could not be painted; the
            others are in the folder.
    """
    missing = [one for one in portraits if not (options.output / one.file_name).exists()]
    if not missing:
        return
    with importing("distributed", "Painting many portraits"):  # before anything is paid
        from .engine import paint_all

    local = graph and [ComfyUI(address, graph) for address in dict.fromkeys(options.servers)]
    painters = local or [Wavespeed(options.state)]
    if price_usd := painters[0].price_usd:
        _agree(len(missing), price_usd, options, say, agreed)
    options.output.mkdir(parents=True, exist_ok=True)
    begin, done = time.monotonic(), 0
    with closing(paint_all(missing, painters)) as outcomes:
        for outcome in outcomes:
            if outcome.error:
                say(outcome.error if outcome.is_lost else f"{outcome.portrait}: {outcome.error}")
                continue
            name, painter = outcome.portrait.file_name, outcome.painter
            write_whole(options.output / name, outcome.file, overwrite=True)
            done += 1
            left_s = (time.monotonic() - begin) / done * (len(missing) - done)
            say(f"{done} of {len(missing)}, {left_s:.0f} s left: {outcome.portrait} ({painter})")
            yield outcome
    if done < len(missing):
        raise PortraitsError(
            f"{len(missing)} portraits were wanted, but {len(missing) - done} are missing, for the "
            "reasons above. Run the same command again: it paints the missing ones alone."
        )


def _agree(count: int, price_usd: float, options: Namespace, say: Say, agreed: Agreed) -> None:
    cost = f"{count} pictures at ${price_usd:.3f} are ${count * price_usd:.2f}"
    say(f"{cost}; what was paid within 7 days is not paid again.")
    if count * price_usd > options.max_cost + 1e-9:
        raise PortraitsError(
            f"At most ${options.max_cost:.2f} may be spent, but {cost}. Nothing was ordered. "
            "Raise --max-cost, or ask for fewer."
        )
    if not (options.yes or agreed()):
        raise PortraitsError("Your word was wanted before money is spent. Nothing was ordered.")
