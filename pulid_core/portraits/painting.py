"""Who paints, for what money; from missing portraits to files, and from the files to a sheet."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import importing
from ..wavespeed.price_and_limits import LIST_PRICE_USD
from ..whole_file import write_whole
from .errors import PortraitsError
from .graph import PLACES, Graph
from .table import Portrait

if TYPE_CHECKING:
    from .engine import Outcome, Painter

LOCAL_SERVER = "http://127.0.0.1:8188"
SERVICE = "wavespeed"
PAID_NODE = "WavespeedFluxPulidRemote"

Say = Callable[[str], object]


def add_painters(parser: argparse.ArgumentParser) -> None:
    """Describe the options that say who paints."""
    add = parser.add_argument
    add("--graph", type=Path, help="your workflow, by Export (API) or as a PNG that it saved")
    servers = f"ComfyUI servers, or {SERVICE} (default: {LOCAL_SERVER})"
    add("--servers", nargs="+", metavar="ADDRESS", default=[LOCAL_SERVER], help=servers)
    for name in PLACES:
        add(f"--{name}", metavar="NODE.INPUT", help=f"where the {name} goes in the graph")
    add("--max-cost", type=float, default=0.5, help=f"US dollars at {SERVICE} (default: 0.5)")
    add("--state", type=Path, help=f"folder of {SERVICE}'s key and record")
    add("--yes", action="store_true", help="pay without asking")


def graph_of(options: argparse.Namespace) -> Graph | None:
    """The user's graph; None where the service needs none.

    Raises:
        PortraitsError: There is none, or it would pay once per server.
    """
    if options.servers == [SERVICE]:
        return None
    if options.graph is None:
        raise PortraitsError(
            "A workflow was wanted, but --graph is missing. Export (API) makes it."
        )
    graph = Graph.read(options.graph, vars(options))
    if PAID_NODE in graph.kinds and len(options.servers) > 1:
        raise PortraitsError(
            f"One record of what was paid was wanted, but {len(options.servers)} servers keep one "
            f"each, and a portrait that moves to another would be paid twice. Use --servers "
            f"{SERVICE}, or one server for a graph with {PAID_NODE}."
        )
    return graph


def painters_of(
    options: argparse.Namespace,
    graph: Graph | None,
    count: int,
    say: Say,
    agreed: Callable[[], bool],
) -> list[Painter]:
    """Who paints; says what it costs, and asks before money is spent.

    Raises:
        MissingDependencyError: Dask is not installed.
        PortraitsError: It would cost more than allowed, or nobody agreed.
    """
    with importing("distributed", "Painting many portraits"):
        import distributed as _  # noqa: F401 - before anything is paid
    painters, price_usd = _wavespeed(options) if graph is None else _servers(options, graph)
    cost = f"{count} pictures at ${price_usd:.3f} are ${count * price_usd:.2f}"
    if price_usd:
        say(f"{cost}; what was paid within 7 days is not paid again.")
    if count * price_usd > options.max_cost + 1e-9:
        raise PortraitsError(
            f"At most ${options.max_cost:.2f} may be spent, but {cost}. Nothing was ordered. "
            "Raise --max-cost, or ask for fewer."
        )
    if price_usd and count and not (options.yes or agreed()):
        raise PortraitsError("Your word was wanted before money is spent. Nothing was ordered.")
    return painters


def _wavespeed(options: argparse.Namespace) -> tuple[list[Painter], float]:
    """The service, and what it asks for a picture."""
    from ..wavespeed import WavespeedClient
    from .wavespeed import Wavespeed

    client = WavespeedClient(options.state)
    price_usd = client.account().price_usd
    return [Wavespeed(client, price_usd)], price_usd


def _servers(options: argparse.Namespace, graph: Graph) -> tuple[list[Painter], float]:
    """The servers, and what a picture costs when the graph has the paid node."""
    from .comfyui import ComfyUI

    painters: list[Painter] = [ComfyUI(one, graph) for one in dict.fromkeys(options.servers)]
    return painters, LIST_PRICE_USD if PAID_NODE in graph.kinds else 0.0


def paint(
    portraits: Sequence[Portrait], painters: Sequence[Painter], folder: Path, say: Say
) -> Iterator[tuple[Portrait, Outcome]]:
    """Paint portraits into a folder, with a line for each; yields those that are there.

    Raises:
        PortraitsError: Some could not be painted; the others are in the folder.
    """
    from .engine import paint_all

    folder.mkdir(parents=True, exist_ok=True)
    begin, done = time.monotonic(), 0
    with closing(paint_all(portraits, painters)) as outcomes:
        for portrait, outcome in outcomes:
            if outcome.error:
                say(outcome.error if outcome.is_lost else f"{portrait}: {outcome.error}")
                continue
            write_whole(folder / portrait.file_name, outcome.file, overwrite=True)
            done += 1
            left_s = (time.monotonic() - begin) / done * (len(portraits) - done)
            say(f"{done} of {len(portraits)}, {left_s:.0f} s left: {portrait} ({outcome.painter})")
            yield portrait, outcome
    if done < len(portraits):
        raise PortraitsError(
            f"{len(portraits)} portraits were wanted, but {len(portraits) - done} are missing, for "
            "the reasons above. Run the same command again: it paints the missing ones alone."
        )
