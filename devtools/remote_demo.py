"""The remote demo: the shared remote workflow in a real ComfyUI, against the stand-in or live.

Started by `python dev.py demo --remote`, which prepares what the arguments name.
"""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import portrait_workflow
import registration
import tiny_stage
from comfyui import ROOT, ComfyServer, ServerError
from demo import DemoError, Progress, refuse_failure, say
from PIL import Image
from wavespeed_standin import COMFY_PACK, Standin
from workflow_conversion import WorkflowError, to_prompt

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.pulid_core.errors import PulidError  # noqa: E402
from pulid_pack.pulid_core.wavespeed import WavespeedClient  # noqa: E402

STANDIN_KEY = "standin-key-of-the-demo"
STATE_FOLDER = Path("user") / "__wavespeed_flux_pulid"

STANDIN = """
This runs against a stand-in of WaveSpeed on this machine: no key, no network, no cost. A stand-in
paints nobody: it returns the photo, tinted. With WAVESPEED_API_KEY set, --live asks the service.
"""
LIVE = """
This uses WaveSpeed's service. The photo is uploaded and stays there for up to 7 days under a public
but unguessable address: use it with the consent of the person shown.
"""


def run_demo(options: argparse.Namespace) -> None:
    """Run the workflow and copy its picture to the output folder."""
    say(LIVE if options.live else STANDIN)
    options.base.mkdir(parents=True, exist_ok=True)
    photo = options.photo or tiny_stage.demo_photo(options.base / "portrait.png")
    if not photo.is_file():
        raise DemoError(f"There is no photo at {photo}.")
    with contextlib.ExitStack() as stack:
        if options.live:
            agree(WavespeedClient(options.base / STATE_FOLDER), options.yes)
            packs, environment = (ROOT,), {}
        else:
            # What an earlier stand-in delivered is unknown to this one.
            shutil.rmtree(options.base / STATE_FOLDER, ignore_errors=True)
            service = stack.enter_context(Standin(key=STANDIN_KEY, generation_s=3))
            packs, environment = (ROOT, COMFY_PACK), service.environment()
        say(f"Starting ComfyUI (log: {options.base / 'comfyui.log'}) ...")
        models = options.base / "models"
        server = stack.enter_context(
            ComfyServer(options.comfyui, options.base, models, packs=packs, environment=environment)
        )
        picture = run_workflow(server, photo, options.prompt)
        report(picture, options)
        if not options.live:
            say(f"The stand-in's books: {service.paid} image paid, with play money.")


def agree(client: WavespeedClient, agreed: bool, ask: Callable[[str], str] = input) -> None:
    """Say the price, and go on only when the user wants to pay it."""
    account = client.account()
    source = "WaveSpeed's quote" if account.quoted else "the model's page"
    say(f"One image costs ${account.price_usd:.3f} by {source}.")
    if account.balance_usd is not None:
        say(f"Your balance is ${account.balance_usd:.2f}.")
    if not agreed and ask("Generate one image? [y/N] ").strip().lower() not in ("y", "yes"):
        raise DemoError("Nothing was sent.")


def run_workflow(server: ComfyServer, photo: Path, text: str | None) -> Path:
    name = server.upload_image(photo)
    workflow = portrait_workflow.load(name, text, portrait_workflow.REMOTE_PATH)
    prompt = to_prompt(workflow, server.object_info())
    progress = Progress(prompt)
    say(f"Running {portrait_workflow.REMOTE_PATH.name} with {photo} ...")
    run = server.run(prompt, timeout_s=900, on_event=progress)
    progress.close()
    refuse_failure(run, own_photo=False)
    say(f"Done in {run.seconds:.0f} s.")
    ((picture,),) = run.images.values()
    return picture


def report(picture: Path, options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    name = "remote" if options.live else "remote-standin"
    copy = Path(shutil.copy(picture, options.output / f"{name}{picture.suffix}"))
    say(f"The picture{'' if options.live else ' of the stand-in'}: {copy}")
    if sys.stdout.isatty():
        with Image.open(copy) as opened:
            opened.show()


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser()
    for name in ("comfyui", "base", "output"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    arguments.add_argument("--photo", type=Path)
    arguments.add_argument("--prompt")
    for name in ("live", "yes"):
        arguments.add_argument(f"--{name}", action="store_true")
    return arguments


def main() -> int:
    try:
        run_demo(parser().parse_args())
    except (DemoError, ServerError, WorkflowError, PulidError) as error:
        say(f"\n{error}")
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
