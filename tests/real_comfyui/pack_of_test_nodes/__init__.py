"""Nodes that only tests use: IMAGE tensors that no picture file can give."""

import torch
from comfy_api.latest import ComfyExtension, io

PHOTO = torch.linspace(0, 1, 64 * 64 * 3).view(1, 64, 64, 3)
IMAGES = {
    "nan": PHOTO.clone().fill_(float("nan")),
    "empty batch": PHOTO[:0],
    "five channels": PHOTO[..., :1].expand(-1, -1, -1, 5),
}


class OddImage(io.ComfyNode):
    """Gives one of the images above, or the photo connected, as gray or RGBA."""

    @classmethod
    def define_schema(cls):
        """Inputs and outputs."""
        return io.Schema(
            node_id="PulidTestOddImage",
            inputs=[io.String.Input("kind"), io.Image.Input("photo", optional=True)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, kind, photo=None):
        """Make the image."""
        if kind == "gray":
            return io.NodeOutput(photo.mean(dim=-1, keepdim=True))
        if kind == "rgba":
            return io.NodeOutput(torch.cat((photo, torch.ones_like(photo[..., :1])), dim=-1))
        return io.NodeOutput(IMAGES[kind])


class TestExtension(ComfyExtension):
    """The list of nodes."""

    __test__ = False

    async def get_node_list(self):
        """All nodes."""
        return [OddImage]


async def comfy_entrypoint():
    """Entry point that ComfyUI calls once."""
    return TestExtension()
