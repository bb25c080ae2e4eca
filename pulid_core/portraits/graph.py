"""The user's workflow, and the places in it where photo, prompt and seed go."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..pixels import UNREADABLE
from .errors import PortraitsError

PLACES = {
    "person": {"LoadImage.image", "PulidLoadIdentity.image"},
    "prompt": {"CLIPTextEncode.text", "PrimitiveStringMultiline.value", "PrimitiveString.value"}
    | {"CLIPTextEncodeFlux.t5xxl", "WavespeedFluxPulidRemote.prompt"},
    "seed": {"KSampler.seed", "KSamplerAdvanced.noise_seed", "RandomNoise.noise_seed"}
    | {"SamplerCustom.noise_seed", "WavespeedFluxPulidRemote.seed"},
}
"""What is looked for; other nodes' inputs can be named."""
MAX_GRAPH_BYTES = 2**26


@dataclass(frozen=True)
class Graph:
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
            with path.open("rb") as file:
                data = file.read(MAX_GRAPH_BYTES)
            if data.startswith(b"\x89PNG"):
                with Image.open(io.BytesIO(data)) as picture:
                    data = picture.info["prompt"]
            prompt = json.loads(data)
            places = {name: _place(prompt, name, chosen.get(name)) for name in PLACES}
        except (*UNREADABLE, AttributeError, TypeError) as error:
            raise PortraitsError(
                f"A workflow in API format was expected, but {path} holds none: {error!r}. "
                "In ComfyUI, choose Export (API) in the menu."
            ) from error
        return cls(prompt, places)

    @property
    def kinds(self) -> set[str]:
        """The types of its nodes."""
        return {node["class_type"] for node in self.prompt.values()}

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
    places = {
        f"{key}.{place}": (key, place)
        for key, node in prompt.items()
        for place, value in node["inputs"].items()
        if not isinstance(value, list)  # which is a link
        and (chosen or f"{node['class_type']}.{place}" in PLACES[name])
    }
    found = [chosen] if chosen in places else [] if chosen else list(places)
    if len(found) != 1:
        raise PortraitsError(
            f"One place for the {name} was wanted in the graph, but found was "
            f"{', '.join(found) or 'none'}. Say which input of which node: --{name} NODE.INPUT"
        )
    return places[found[0]]
