"""One node that only waits, for measuring and stopping ComfyUI; users never install this pack."""

import asyncio
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io

BOOK = "waited.txt"
"""In the output folder: a line for each prompt that came to its end."""


class Wait(io.ComfyNode):
    """Waits, notes the text, and hands the picture on with one gray for each seed."""

    @classmethod
    def define_schema(cls):
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidTestWait",
            inputs=[
                io.Image.Input("image"),
                io.String.Input("text"),
                io.Int.Input("seed", max=2**50),
                io.Float.Input("seconds", max=60.0),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    async def execute(cls, image, text, seed, seconds):
        """Wait without a thread, as a busy card would."""
        await asyncio.sleep(seconds)
        with (Path(folder_paths.get_output_directory()) / BOOK).open("a") as book:
            book.write(f"{text} {seed}\n")
        return io.NodeOutput(torch.full_like(image[:, :64, :64], seed % 100 / 100))


class WaitingExtension(ComfyExtension):
    """The list of nodes."""

    async def get_node_list(self):
        """All nodes."""
        return [Wait]


async def comfy_entrypoint():
    """Entry point that ComfyUI calls once."""
    return WaitingExtension()
