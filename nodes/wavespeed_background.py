"""The remote half at work behind a node: its thread, its progress, what goes in and comes out.

Imported when a remote node runs, not when ComfyUI lists the nodes.
"""

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
from .wavespeed_inputs import STATE_FOLDER

LOGGER = logging.getLogger(__name__)

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

    def say_goodbye(self, future: asyncio.Future[Any]) -> None:
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


def read_ids(text: str) -> list[str]:
    """Read ids that stand on lines or between commas."""
    return text.replace(",", " ").split()


def output_of(batch: Batch) -> io.NodeOutput:
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


def request_of(
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
