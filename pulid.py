"""What users type in the pack's folder; sets nothing up and starts no program.

    python pulid.py models                 which model files there are, and where; with names: fetch them
    python pulid.py convert OLD.json NEW.json   put our nodes into an older pack's workflow
    python pulid.py remote                 what was paid at WaveSpeed: list, collect, delete
    python pulid.py portraits TABLE.csv    many portraits, on your ComfyUI servers or at WaveSpeed
    python pulid.py evaluate PHOTOS        how alike: fixed prompts, two judges, one table

Runs with the Python that runs ComfyUI, also on its own standard library.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - whoever reads the sentence runs an older one
    sys.exit("pulid.py needs Python 3.10 or newer, but this is %d.%d." % sys.version_info[:2])  # noqa: UP031

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
STATE_FOLDER = "__wavespeed_flux_pulid"  # as the remote node's, in ComfyUI's user folder


class UsageError(Exception):
    """What was typed cannot be done; the text is for the person who typed it."""


def models(options: argparse.Namespace) -> int:
    """List the model files, or download those that are named."""
    from pulid_core.errors import PulidError
    from pulid_core.model_files import download

    try:
        folders = model_folders(options)
        if not options.names:
            say(download.listing(folders))
            return 0
        targets = download.chosen(options.names, folders)
        if not targets:
            say("Nothing to download: the files are there.")
            return 0
        say(download.overview(targets))
        if not (options.yes or agreed()):
            say("Nothing was downloaded.")
            return 1
        download.download(targets, say)
    except PulidError as error:
        raise UsageError(str(error)) from error
    return 0


def model_folders(options: argparse.Namespace):
    """The folders that `models` searches, and where a file belongs that it fetches."""
    from pulid_core.errors import MissingDependencyError
    from pulid_core.model_files.finder import (
        EXTRA_PATHS,
        FoldersOnDisk,
        comfyui_around,
        extra_folders,
    )

    files = list(options.extra_model_paths_config)
    if options.models:
        models_folder = existing(options.models)
    elif comfyui := options.comfyui or comfyui_around(ROOT):
        models_folder = existing(comfyui) / "models"
        files.insert(0, existing(comfyui) / EXTRA_PATHS)
    else:
        raise UsageError(
            f"{ROOT} does not lie in ComfyUI/custom_nodes, so name ComfyUI's folder: "
            "python pulid.py models --comfyui path/to/ComfyUI"
        )
    try:
        extra = [entry for file in files for entry in extra_folders(file)]
    except MissingDependencyError as error:
        say(str(error))
        extra = []
    return FoldersOnDisk(models_folder, extra)


def existing(folder: Path) -> Path:
    """The absolute path of a folder that must be there."""
    if not folder.is_dir():
        raise UsageError(f"{folder} should be a folder, but there is none.")
    return folder.absolute()


def agreed(question: str = "Download these?", what: str = "the download starts") -> bool:
    """Ask whether to go on."""
    if not sys.stdin.isatty():
        say(f"No terminal to ask on: with --yes {what} without asking.")
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        say("")
        return False


def convert(options: argparse.Namespace) -> int:
    """Put our nodes into a workflow made with an older PuLID-FLUX pack."""
    from pulid_core.old_workflows import OldWorkflowError, read_workflow
    from pulid_core.old_workflows import convert as convert_workflow

    try:
        workflow = read_workflow(options.old)
        is_same = options.new.exists() and options.new.samefile(options.old)
        conversion = convert_workflow(workflow)
        text = json.dumps(conversion.workflow, indent=2, ensure_ascii=False).encode()
    except (OSError, ValueError, OldWorkflowError) as error:
        raise UsageError(f"{options.old} cannot be converted: {error}") from error
    if is_same:
        raise UsageError("The new workflow would overwrite the old one. Choose another name.")
    try:
        options.new.write_bytes(text + b"\n")
    except OSError as error:
        raise UsageError(
            f"{options.new} cannot be written: {error}. Choose another name, in a folder that exists."
        ) from error
    if conversion.replaced:
        say(f"{options.new}: {conversion.replaced} of our nodes stand for the old ones.")
    elif conversion.remarks:
        say(f"{options.new}: nothing was replaced, for a reason:")
    else:
        say(f"{options.new}: unchanged; {options.old} holds no node of the older PuLID-FLUX packs.")
    for remark in conversion.remarks:
        say(f"* {remark}")
    return 0


def remote(arguments: list[str]) -> int:
    """List, collect or delete what was paid at WaveSpeed; with the record of the ComfyUI around the pack."""
    from pulid_core.wavespeed.command import main as run

    state = state_folder()
    if state and not any(a.split("=")[0] == "--state" for a in arguments):
        arguments = ["--state", str(state), *arguments]
    return run(arguments)


def portraits(arguments: list[str]) -> int:
    """Paint a table of people, prompts and seeds, on ComfyUI servers or at WaveSpeed."""
    from pulid_core.portraits.command import parser, run

    return run_with_painters(parser(), run, arguments)


def evaluate(arguments: list[str]) -> int:
    """Paint people through fixed prompts, and measure likeness with face models of your choice."""
    from pulid_core.evaluation.command import parser, run

    return run_with_painters(parser(), run, arguments)


def run_with_painters(
    commands: argparse.ArgumentParser, run: Callable[..., None], arguments: list[str]
) -> int:
    """Run a command that paints, with the record of the ComfyUI around the pack."""
    from pulid_core.errors import PulidError

    options = commands.parse_args(arguments)
    options.state = options.state or state_folder()
    try:
        run(options, say, lambda: agreed("Pay this?", "it is paid"))
    except (PulidError, OSError) as error:
        raise UsageError(str(error)) from error
    return 0


def state_folder() -> Path | None:
    """Where the remote node of the ComfyUI around the pack keeps key and record."""
    from pulid_core.model_files.finder import comfyui_around

    comfyui = comfyui_around(ROOT)
    return comfyui / "user" / STATE_FOLDER if comfyui else None


def say(text: str) -> None:
    """Write a line at once, also into a pipe."""
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    commands = argparse.ArgumentParser(description="PuLID for FLUX, outside ComfyUI.")
    names = commands.add_subparsers(dest="command", required=True)
    models_command = names.add_parser("models", help=models.__doc__)
    models_command.add_argument(
        "names", nargs="*", metavar="NAME", help="files to download; missing: all that PuLID lacks"
    )
    place = models_command.add_mutually_exclusive_group()
    place.add_argument(
        "--comfyui", type=Path, help="ComfyUI's folder; else the one around this pack"
    )
    place.add_argument("--models", type=Path, help="a models folder; no ComfyUI around it is read")
    models_command.add_argument(
        "--extra-model-paths-config",
        type=Path,
        action="append",
        default=[],
        help="a file like extra_model_paths.yaml, as ComfyUI was started with; more than one may be given",
    )
    models_command.add_argument("--yes", action="store_true", help="download without asking")
    convert_command = names.add_parser("convert", help=convert.__doc__)
    convert_command.add_argument("old", type=Path, help="JSON, or a picture that holds it")
    convert_command.add_argument("new", type=Path, help="the file to write")
    names.add_parser("remote", help=remote.__doc__, add_help=False)
    for command in (portraits, evaluate):
        names.add_parser(command.__name__, help=command.__doc__, add_help=False)
    return commands


def main() -> int:
    """Do what was typed, and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a Windows code page lacks much
    # At the end: this folder's `nodes` must not stand before another module of that name.
    sys.path.append(str(ROOT))
    own_parser = {"remote": remote, "portraits": portraits, "evaluate": evaluate}
    try:
        if command := own_parser.get("".join(sys.argv[1:2])):
            return command(sys.argv[2:])
        options = parser().parse_args()
        return {"models": models, "convert": convert}[options.command](options)
    except UsageError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. The next run goes on from here.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
