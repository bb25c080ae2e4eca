"""Set up this repository and run it: `python dev.py demo`, `test`, `bench`, `pages` or `pictures`.

Needs Python 3.10 or newer, git's clone of this repository, and the network on the first run; all
that is made lies in `.venv` and `.dev`, and `demo-pictures` for the demo's pictures; delete them to
start anew. What users type is `pulid.py`.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - whoever reads the sentence runs an older one
    sys.exit("dev.py needs Python 3.10 or newer, but this is %d.%d." % sys.version_info[:2])  # noqa: UP031

import argparse
import io
from pathlib import Path

from devtools import commands
from devtools.setup import SetupError, say

MOVED = ("models", "convert")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Set up this repository and run it.")
    names = parser.add_subparsers(dest="command", required=True)
    demo = names.add_parser("demo", help=commands.demo.__doc__)
    demo.add_argument("--photo", type=Path, help="a photo with a face; else a built-in one")
    demo.add_argument("--prompt", help="what to paint; else the workflow's own prompt")
    demo.add_argument("--models", type=Path, help="a ComfyUI models folder with the real weights")
    demo.add_argument(
        "--remote",
        action="store_true",
        help="the graph for WaveSpeed's service, against a stand-in without key, network or cost",
    )
    demo.add_argument(
        "--live",
        action="store_true",
        help="with --remote: the service itself, for money; the key is in WAVESPEED_API_KEY",
    )
    demo.add_argument("--yes", action="store_true", help="with --live: pay without asking")
    test = names.add_parser("test", help=commands.test.__doc__)
    test.add_argument("--fast", action="store_true", help="only what needs no ComfyUI and is quick")
    for command in (commands.pages, commands.pictures):
        names.add_parser(command.__name__, help=command.__doc__)
    bench = names.add_parser("bench", help=commands.bench.__doc__)
    bench.add_argument(
        "names",
        nargs="*",
        help="encode, injection, startup, portraits, or gpu; else the first four",
    )
    bench.add_argument("--small", action="store_true", help="gpu: tiny, also on a CPU")
    bench.add_argument(
        "--pack", action="store_true", help="gpu: only make .dev/gpu, for a machine without network"
    )
    return parser


def refuse_misfits(options: argparse.Namespace, rest: list[str]) -> None:
    """End with a usage error when arguments are unknown or do not fit together."""
    if options.command != "test" and rest:
        parser().error(f"unrecognised arguments: {' '.join(rest)}")
    if options.command == "demo":
        if (options.live and not options.remote) or (options.yes and not options.live):
            parser().error("--live goes with --remote, and --yes with --live")
        if options.remote and options.models:
            parser().error("--remote needs no --models")


def main() -> int:
    """Run one command and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a Windows code page lacks much
    if sys.argv[1:2] and sys.argv[1] in MOVED:
        say(f"`{sys.argv[1]}` has moved: type pulid.py in place of dev.py, with the same words.")
        return 2
    options, rest = parser().parse_known_args()
    refuse_misfits(options, rest)
    try:
        if options.command == "test":
            return commands.test(options.fast, rest)
        return getattr(commands, options.command)(options)
    except SetupError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The next run goes on from here.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
