"""WaveSpeedAI's hosted FLUX-PuLID as nodes: thin shells over pulid_core.wavespeed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..pulid_core.wavespeed import (
    Batch,
    Progress,
    Request,
    WavespeedClient,
    check_size,
    parse_size,
)
from ..pulid_core.wavespeed.errors import RemoteCancelled, RemoteInputError
from .display import shown
from .values import require_values
from .wavespeed_inputs import batch_inputs, expert_inputs, limit_inputs, main_inputs

LOGGER = logging.getLogger(__name__)

CATEGORY = "PuLID FLUX/remote"
STATE_FOLDER = "wavespeed_flux_pulid"  # in ComfyUI's user folder; not reachable over HTTP

WATCH_S = 0.25
"""How often a waiting node looks whether it was interrupted."""
FAREWELL_S = 0.4
"""How long an interrupted node waits to learn what is already being generated."""

Result = TypeVar("Result")
Work = Callable[[Callable[[Progress], None], Callable[[], bool]], Result]


@lru_cache(maxsize=1)
def open_client() -> WavespeedClient:
    """The client of this ComfyUI: one journal, one set of results, one pace for all nodes."""
    return WavespeedClient(Path(folder_paths.get_system_user_directory(STATE_FOLDER)))


async def supervise(work: Work[Result]) -> Result:
    """Run work in a thread, showing its progress, until it ends or the user interrupts.

    The loop stays free for other nodes, and the work goes on while a local sampler blocks it.
    """
    stop = Event()
    shown: list[Progress] = []
    display = _Display()
    future = asyncio.wrap_future(_start(lambda: work(shown.append, stop.is_set)))
    # After an interruption nobody asks for the result any more.
    future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    try:
        while not future.done():
            await asyncio.wait({future}, timeout=WATCH_S)
            if comfy.model_management.processing_interrupted():
                stop.set()
                await asyncio.wait({future}, timeout=FAREWELL_S)
                display.say_goodbye(future)
                raise comfy.model_management.InterruptProcessingException
            if shown:
                display.show(shown[-1])
                shown.clear()
        result = future.result()
        if shown:
            display.show(shown[-1])
        return result
    finally:
        stop.set()


def _start(work: Callable[[], Result]) -> Future[Result]:
    """Run work in a thread that nobody has to wait for.

    ComfyUI waits for asyncio's own threads when a prompt ends, and Python for those of a pool
    when it ends itself.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            future.set_exception(error)

    Thread(target=run, name="wavespeed-node", daemon=True).start()
    return future


class _Display:
    """Progress bar and text of the node that is being executed."""

    def __init__(self):
        context = get_executing_context()
        self._node_id = context.node_id if context else None
        self._bar: comfy.utils.ProgressBar | None = None
        self._text = ""

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        bar = self._bar or comfy.utils.ProgressBar(progress.total, self._node_id)
        bar.update_absolute(progress.done, progress.total)
        self._bar = bar
        self._say(progress.line)

    def say_goodbye(self, future: asyncio.Future) -> None:
        """Say what an interrupted run leaves behind."""
        error = future.exception() if future.done() else None
        if isinstance(error, RemoteCancelled):
            LOGGER.info("%s", error)
            self._say(str(error))

    def _say(self, text: str) -> None:
        server = getattr(PromptServer, "instance", None)
        if server and self._node_id and text != self._text:
            server.send_progress_text(text, self._node_id)
            self._text = text


def _photos(image: torch.Tensor | None, batch_mode: str) -> list[np.ndarray]:
    """(B, H, W, C) in [0, 1] as arrays, one per prediction."""
    if image is None:
        raise RemoteInputError("Connect a reference image, or enter a prediction_id.")
    chosen = image[:1] if batch_mode == "first_only" else image
    floats = chosen.float() if chosen.is_floating_point() else chosen
    return [photo.cpu().numpy() for photo in floats]


def _prompts(text: str, per_line: bool) -> list[str]:
    lines = text.splitlines() if per_line else [text]
    return [line.strip() for line in lines if line.strip()]


def _ids(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _output(batch: Batch) -> io.NodeOutput:
    """The outputs of a run: pictures of one size, what is known about them, their ids."""
    height, width = batch.images[0].shape[:2]
    pictures = [torch.from_numpy(np.ascontiguousarray(image))[None] for image in batch.images]
    same = [
        picture
        if picture.shape[1:3] == (height, width)
        else comfy.utils.common_upscale(
            picture.movedim(-1, 1), width, height, "lanczos", "disabled"
        ).movedim(1, -1)
        for picture in pictures
    ]
    report = {"summary": batch.summary, "images": batch.metadata, "failures": batch.failures}
    return io.NodeOutput(
        torch.cat(same),  # (N, H, W, 3)
        json.dumps(report, indent=2, ensure_ascii=False),
        "\n".join(batch.prediction_ids),
        ui=shown(batch.summary),
    )


class WavespeedFluxPulidRemote(io.ComfyNode):
    """Portraits by WaveSpeedAI's hosted FLUX-PuLID."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and what the user should know before pressing Run."""
        return io.Schema(
            node_id="WavespeedFluxPulidRemote",
            display_name="WaveSpeed FLUX PuLID (remote)",
            category=CATEGORY,
            search_aliases=[
                *("wavespeed", "pulid", "face", "identity", "portrait", "cloud"),
                *("consistent character", "same person"),
            ],
            description=(
                "Generates portraits of the person in a photo with WaveSpeedAI's hosted FLUX-PuLID, "
                "for about $0.02 per image. The photo is sent to WaveSpeedAI and kept there for up "
                "to 7 days under a public but unguessable address: use it with the consent of the "
                "person shown. The key comes from WAVESPEED_API_KEY, or from the file api_key in "
                f"ComfyUI's user folder under __{STATE_FOLDER}; never from the workflow."
            ),
            inputs=[*main_inputs(), *batch_inputs(), *limit_inputs(), *expert_inputs()],
            outputs=[
                io.Image.Output(
                    "images", tooltip="The portraits: photo by photo, then prompt, then seed."
                ),
                io.String.Output(
                    "metadata", tooltip="JSON: per image the service's answer, seed and warnings."
                ),
                io.String.Output(
                    "prediction_ids",
                    tooltip="One id per line. With prediction_id they are fetched again for free.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        prompt: str | None = None,
        size: str | None = None,
        prediction_id: str | None = "",
    ) -> bool:
        """Refuse at queue time, once, what can be refused; a linked input is None and waits.

        Raises:
            RemoteInputError: The prompt is blank, or the size is none.
        """
        if prompt is not None and not prompt.strip() and prediction_id == "":
            raise RemoteInputError("The prompt must not be blank.")
        if size is not None:
            parse_size(size)
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        seed: int | None = None,
        force_rerun: bool | None = False,
        prediction_id: str | None = "",
        **_: object,
    ) -> float:
        """Always run with a drawn seed or by force; otherwise ComfyUI's cache may answer."""
        fetches = bool((prediction_id or "").strip())
        return float("nan") if not fetches and (seed == -1 or force_rerun) else 0.0

    @classmethod
    async def execute(
        cls, max_wait_s: int | None = None, prediction_id: str | None = None, **inputs: Any
    ) -> io.NodeOutput:
        """Generate, or fetch by id, and return the pictures as one batch."""
        require_values(cls, max_wait_s=max_wait_s, prediction_id=prediction_id, **inputs)
        inputs = {name: value for name, value in inputs.items() if value is not None}
        client = open_client()
        max_wait_s, ids = max_wait_s or 600, _ids(prediction_id or "")
        request = None if ids else _request(max_wait_s=max_wait_s, **inputs)

        def work(progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Batch:
            if request is None:
                return client.collect(
                    ids, max_wait_s=max_wait_s, progress=progress, cancelled=cancelled
                )
            return client.run(request, progress=progress, cancelled=cancelled)

        return _output(await supervise(work))


def _request(
    *,
    prompt: str,
    size: str,
    image: torch.Tensor | None = None,
    width: int | None = None,
    height: int | None = None,
    batch_mode: str = "each",
    prompt_per_line: bool = False,
    enable_base64_output: bool = False,
    enable_sync_mode: bool = False,
    **settings: Any,
) -> Request:
    """The request that the inputs describe; `settings` are fields of `Request` by its names."""
    sides = parse_size(size)
    if width is not None and height is not None:
        sides = check_size(width, height)
    return Request(
        photos=_photos(image, batch_mode),
        prompts=_prompts(prompt, prompt_per_line),
        width=sides[0],
        height=sides[1],
        base64_output=enable_base64_output,
        sync_mode=enable_sync_mode,
        **settings,
    )


class WavespeedAccount(io.ComfyNode):
    """Whether the key works, and what the account can pay."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """No inputs; one line of text."""
        return io.Schema(
            node_id="WavespeedAccount",
            display_name="WaveSpeed Account",
            category=CATEGORY,
            search_aliases=["wavespeed", "balance", "price", "key"],
            description="Shows whether a WaveSpeed key is found, the balance and the price of one "
            "image. Costs nothing and never shows the key.",
            inputs=[],
            outputs=[io.String.Output("report", tooltip="Key found, balance and price.")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls) -> float:
        """A balance changes: always ask."""
        return float("nan")

    @classmethod
    async def execute(cls) -> io.NodeOutput:
        """Ask the service."""
        client = open_client()
        account = await supervise(lambda _, cancelled: client.account(cancelled))
        price = f"One image costs ${account.price_usd:.3f}"
        price += "." if account.quoted else " by the model's page."
        if account.balance_usd is None:
            key_file = client.state_dir / "api_key"
            report = f"No key found: set WAVESPEED_API_KEY, or put it into {key_file}. {price}"
        else:
            report = f"Key found. Balance ${account.balance_usd:.2f}. {price}"
        return io.NodeOutput(report, ui=shown(report))
