"""The user's workflow, and the places in it where photo, prompt and seed go."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

from ..old_workflows import OldWorkflowError, read_workflow
from ..wavespeed.price_and_limits import LIST_PRICE_USD
from .errors import PortraitsError

PAID_NODE = "WavespeedFluxPulidRemote"
PLACES = {
    "person": {"LoadImage.image", "PulidLoadIdentity.image"},
    "prompt": {"CLIPTextEncode.text", "PrimitiveStringMultiline.value", "PrimitiveString.value"}
    | {"CLIPTextEncodeFlux.t5xxl", "WavespeedFluxPulidRemote.prompt"},
    "seed": {"KSampler.seed", "KSamplerAdvanced.noise_seed", "RandomNoise.noise_seed"}
    | {"SamplerCustom.noise_seed", "WavespeedFluxPulidRemote.seed"},
}
"""What is looked for; other nodes' inputs can be named."""


class Graph(NamedTuple):
    """A workflow in API format, with the node and the input of each place."""

    prompt: dict[str, Any]
    places: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, path: Path, chosen: dict[str, Any]) -> Graph:
        """Read a workflow, and find the places that the user did not choose.

        Args:
            path: JSON, or a PNG that ComfyUI saved.
            chosen: By the name of a place "NODE.INPUT", such as "6.text".

        Raises:
            PortraitsError: It is no workflow in API format, or a place is not the only one.
        """
        try:
            prompt = read_workflow(path, ("prompt",))
            places = {name: _place(prompt, name, chosen.get(name)) for name in PLACES}
        except (OldWorkflowError, OSError, AttributeError, KeyError, TypeError) as error:
            raise PortraitsError(
                f"A workflow in API format was expected, but {path} holds none: {error!r}. "
                "In ComfyUI, choose Export (API) in the menu."
            ) from error
        return cls(prompt, places)

    @property
    def price_usd(self) -> float:
        """What a picture costs: nothing without the node that orders at WaveSpeed."""
        kinds = {node["class_type"] for node in self.prompt.values()}
        return LIST_PRICE_USD if PAID_NODE in kinds else 0.0

    def text(self) -> str:
        """The same for the same pictures: titles do not count."""
        nodes = {key: (node["class_type"], node["inputs"]) for key, node in self.prompt.items()}
        return json.dumps([nodes, self.places], sort_keys=True)

    def filled(self, **values: str | int) -> dict[str, Any]:
        """The workflow for one portrait."""
        prompt = copy.deepcopy(self.prompt)
        for name, value in values.items():
            node, place = self.places[name]
            prompt[node]["inputs"][place] = value
        return prompt


def _place(prompt: dict[str, Any], name: str, chosen: str | None) -> tuple[str, str]:
    wanted = {chosen} if chosen else PLACES[name]
    places = [
        (key, place)
        for key, node in prompt.items()
        for place, value in node["inputs"].items()
        if f"{key if chosen else node['class_type']}.{place}" in wanted
        and not isinstance(value, list)  # which is a link
    ]
    if len(places) != 1:
        found = ", ".join(map(".".join, places)) or "none"
        raise PortraitsError(
            f"One place for the {name} was wanted in the graph, but found was {found}. Say which input "
            f"of which node: --{name} NODE.INPUT"
        )
    return places[0]
