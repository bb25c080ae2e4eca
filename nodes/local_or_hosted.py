"""PulidLocalOrHosted: one switch between a picture made here and one made by a service."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pulid_core.errors import PulidError
from ..pulid_core.prompt_branches import is_prompt, without_input
from .values import require_values

NODE_ID = "PulidLocalOrHosted"
LOCAL, HOSTED = "local", "hosted"
UNCONNECTED = object()


class PulidLocalOrHosted(io.ComfyNode):
    """Runs the branch that is chosen, and nothing of the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id=NODE_ID,
            display_name="PuLID Local or Hosted",
            category="PuLID FLUX",
            description="Hands on the picture of one of two branches. The other branch does not "
            "run, costs nothing, and needs none of its model files: a computer without FLUX can "
            "run the hosted one.",
            search_aliases=["pulid", "switch", "wavespeed", "remote", "if else"],
            inputs=[
                io.Combo.Input(
                    "run_on",
                    options=[LOCAL, HOSTED],
                    default=LOCAL,
                    tooltip="local: your own GPU. hosted: the service, which bills each new picture.",
                ),
                io.Image.Input(
                    "local",
                    lazy=True,
                    optional=True,
                    tooltip="The picture made here, from VAE Decode.",
                ),
                io.Image.Input(
                    "hosted",
                    lazy=True,
                    optional=True,
                    tooltip="The picture from WaveSpeed FLUX PuLID (remote).",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="Of the chosen branch.")],
        )

    @classmethod
    def check_lazy_status(
        cls, run_on: str, local: Any = UNCONNECTED, hosted: Any = UNCONNECTED
    ) -> list[str]:
        """Ask for the chosen branch alone; what is connected and not made yet is None."""
        return [
            name
            for name, given in ((LOCAL, local), (HOSTED, hosted))
            if name == run_on and given is None
        ]

    @classmethod
    def execute(
        cls, run_on: str, local: Any = UNCONNECTED, hosted: Any = UNCONNECTED
    ) -> io.NodeOutput:
        """Hand on the picture."""
        require_values(cls, run_on=run_on)
        picture = local if run_on == LOCAL else hosted
        if picture is UNCONNECTED:
            raise PulidError(
                f"run_on of {NODE_ID} is {run_on}, but no picture is connected there. Connect that "
                "branch, or wake it where it is muted; or choose the other one."
            )
        return io.NodeOutput(picture)


def drop_unchosen(request: dict[str, Any]) -> dict[str, Any]:
    """Leave the branches that are not chosen out of a prompt: ComfyUI checks the files of lazy ones too.

    Args:
        request: The body of POST /prompt; not changed.
    """
    prompt = request.get("prompt")
    if not is_prompt(prompt):
        return request
    for key, node in prompt.items():
        run_on = node["inputs"].get("run_on")
        if node.get("class_type") == NODE_ID and run_on in (LOCAL, HOSTED):
            prompt = without_input(prompt, key, HOSTED if run_on == LOCAL else LOCAL)
    return request | {"prompt": prompt}
