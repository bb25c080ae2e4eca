"""The remote demo: one portrait by the remote half itself, against the stand-in or live; no torch, no ComfyUI.

Started by `python dev.py demo --remote`, which prepares what the arguments name.
"""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import portrait_workflow
import registration
import skimage.data
from PIL import Image
from wavespeed_standin import Standin

assert registration.pack  # it makes the repository importable under this name
from pulid_pack.pulid_core.errors import PulidError  # noqa: E402
from pulid_pack.pulid_core.wavespeed import (  # noqa: E402
    AddressPolicy,
    Transport,
    WavespeedClient,
    terminal_progress,
)

STANDIN_KEY = "standin-key-of-the-demo"
SEED = 7


class DemoError(Exception):
    """The demo did not come to its picture; the text says why."""


STANDIN = """
This runs against a stand-in of WaveSpeed on this machine: no key, no network, no cost. A stand-in
paints nobody: it returns the photo, tinted. With WAVESPEED_API_KEY set, --live asks the service.
"""
LIVE = """
This uses WaveSpeed's service. The photo is uploaded and stays there for up to 7 days under a public
but unguessable address: use it with the consent of the person shown.
"""


def run_demo(options: argparse.Namespace) -> None:
    """Make one picture and put it into the output folder."""
    say(LIVE if options.live else STANDIN)
    options.base.mkdir(parents=True, exist_ok=True)
    photo = photo_of(options)
    prompt = options.prompt or workflow_prompt()
    say(f"The photo: {photo}\nThe prompt: {prompt}")
    with contextlib.ExitStack() as stack:
        if options.live:
            client = WavespeedClient(options.base)
            agree(client, options.yes)
        else:
            # What an earlier stand-in delivered is unknown to this one.
            shutil.rmtree(options.base, ignore_errors=True)
            service = stack.enter_context(Standin(key=STANDIN_KEY, generation_s=3))
            client = standin_client(options.base, service)
        with Image.open(photo) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        batch = client.generate(pixels, prompt, seed=SEED, progress=terminal_progress)
        report(batch.images[0], options)
        if not options.live:
            say(f"The stand-in's books: {service.paid} image paid, with play money.")


def photo_of(options: argparse.Namespace) -> Path:
    """The user's photo, else scikit-image's astronaut (NASA, public domain)."""
    if options.photo:
        return options.photo
    path = options.output / "portrait.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


def workflow_prompt() -> str:
    """What the shared workflow asks for, on its first line."""
    workflow = portrait_workflow.read(portrait_workflow.REMOTE_PATH)
    node = portrait_workflow.only_node(workflow, "WavespeedFluxPulidRemote")
    return node["widgets_values"][0].splitlines()[0]


def standin_client(base: Path, service: Standin) -> WavespeedClient:
    """A client that may speak to the stand-in alone."""
    transport = Transport(AddressPolicy(frozenset({service.url})))
    return WavespeedClient(base, api_key=STANDIN_KEY, transport=transport, base_url=service.url)


def agree(client: WavespeedClient, agreed: bool, ask: Callable[[str], str] = input) -> None:
    """Say the price, and go on only when the user wants to pay it."""
    account = client.account()
    source = "WaveSpeed's quote" if account.quoted else "the model's page"
    say(f"One image costs ${account.price_usd:.3f} by {source}.")
    if account.balance_usd is not None:
        say(f"Your balance is ${account.balance_usd:.2f}.")
    if not agreed and ask("Generate one image? [y/N] ").strip().lower() not in ("y", "yes"):
        raise DemoError("Nothing was sent.")


def report(image: np.ndarray, options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{'remote' if options.live else 'remote-standin'}.png"
    Image.fromarray((image * 255).round().astype("uint8")).save(path)
    say(f"The picture{'' if options.live else ' of the stand-in'}: {path}")
    say(f"The graph: {portrait_workflow.REMOTE_PATH}; drag it into ComfyUI's window.")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what the demo is for


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser()
    for name in ("base", "output"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    arguments.add_argument("--photo", type=Path)
    arguments.add_argument("--prompt")
    for name in ("live", "yes"):
        arguments.add_argument(f"--{name}", action="store_true")
    return arguments


def main() -> int:
    try:
        run_demo(parser().parse_args())
    except (DemoError, PulidError) as error:
        say(f"\n{error}")
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
