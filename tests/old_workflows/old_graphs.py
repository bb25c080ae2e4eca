"""Small graphs as the older PuLID-FLUX packs' users saved them, in any combination."""

from typing import Any

LOADERS = {
    "model": ("PulidFluxModelLoader", "PULIDFLUX", ["pulid_flux_v0.9.1.safetensors"]),
    "face": ("PulidFluxInsightFaceLoader", "FACEANALYSIS", ["CPU"]),
    "eva": ("PulidFluxEvaClipLoader", "EVA_CLIP", []),
}
BALAZIK = [0.8, 0.1, 0.9]
SIPIE = [*BALAZIK, "auto_weight", 1.5, 0.5, 1000, False]
SOCKETS = {
    "model": "MODEL",
    "pulid_flux": "PULIDFLUX",
    "eva_clip": "EVA_CLIP",
    "face_analysis": "FACEANALYSIS",
    "image": "IMAGE",
    "attn_mask": "MASK",
    "prior_image": "IMAGE",
    "options": "OPTIONS",
}


class OldGraph:
    """A saved workflow that grows node by node; ids are handed out in order."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def add(self, kind, outputs=(), values=None, mode=0, **inputs) -> int:
        """Add a node; an input is the id of the node whose first output feeds it, or None."""
        number = len(self.nodes) + 1
        node = {
            "id": number,
            "type": kind,
            "pos": [400 * (number % 4), 300 * (number // 4)],
            "size": {"0": 315, "1": 58},
            "flags": {},
            "order": number - 1,
            "mode": mode,
            "inputs": [],
            "outputs": [{"name": type_, "type": type_, "links": []} for type_ in outputs],
            "properties": {"Node name for S&R": kind, "cnr_id": "an-old-pack"},
        }
        if values is not None:
            node["widgets_values"] = values
        self.nodes.append(node)
        for name, source in inputs.items():
            self.connect(source, node, name)
        return number

    def connect(self, source, node, name) -> None:
        socket = {"name": name, "type": SOCKETS.get(name, "*"), "link": None}
        node["inputs"].append(socket)
        if source is None:
            return
        output = self.nodes[source - 1]["outputs"][0]
        link = 100 + len(self.links)
        socket["link"] = link
        output["links"].append(link)
        ends = [source, 0, node["id"], len(node["inputs"]) - 1]
        self.links.append([link, *ends, output["type"]])

    def loader(self, name, values=None) -> int:
        kind, type_, defaults = LOADERS[name]
        return self.add(kind, [type_], defaults if values is None else values)

    def apply(self, values=BALAZIK, **changes) -> int:
        """An apply node with loaders, model and photo of its own where none are given."""
        inputs: dict[str, Any] = {}
        inputs["model"] = changes.pop("model", None) or self.add("UNETLoader", ["MODEL"], ["flux"])
        for socket, name in (
            ("pulid_flux", "model"),
            ("eva_clip", "eva"),
            ("face_analysis", "face"),
        ):
            inputs[socket] = changes.pop(socket, None) or self.loader(name)
        inputs["image"] = changes.pop("image", None) or self.add("LoadImage", ["IMAGE"], ["a.png"])
        inputs["attn_mask"] = changes.pop("attn_mask", None)
        return self.add("ApplyPulidFlux", ["MODEL"], list(values), **inputs, **changes)

    def saved(self) -> dict[str, Any]:
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": 99 + len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [{"title": "Faces", "bounding": [0, 0, 500, 500]}],
            "config": {},
            "extra": {"ds": {"scale": 1}},
            "version": 0.4,
        }


def prompt(values=BALAZIK, provider="CPU", **extra_inputs) -> dict[str, Any]:
    """The same in API format."""
    names = ("weight", "start_at", "end_at", "fusion", "fusion_weight_max", "fusion_weight_min")
    names += ("train_step", "use_gray")
    return {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux"}},
        "2": {
            "class_type": "PulidFluxModelLoader",
            "inputs": {"pulid_file": "pulid_flux_v0.9.1.safetensors"},
        },
        "3": {"class_type": "PulidFluxInsightFaceLoader", "inputs": {"provider": provider}},
        "4": {"class_type": "PulidFluxEvaClipLoader", "inputs": {}},
        "5": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "6": {
            "class_type": "ApplyPulidFlux",
            "inputs": {
                **dict(zip(names, values, strict=False)),
                "model": ["1", 0],
                "pulid_flux": ["2", 0],
                "eva_clip": ["4", 0],
                "face_analysis": ["3", 0],
                "image": ["5", 0],
                **extra_inputs,
            },
        },
        "7": {"class_type": "BasicGuider", "inputs": {"model": ["6", 0]}},
    }
