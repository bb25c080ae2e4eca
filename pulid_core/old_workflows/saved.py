"""Workflows as ComfyUI saves them, with their layout and their subgraphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .broadcast import link_broadcasts
from .cleaning import (
    drop_dead_borders,
    drop_dead_ends,
    drop_emptied_subgraphs,
    drop_loaders,
    drop_promoted_widgets,
)
from .graph import (
    BYPASSED,
    Graph,
    Node,
    input_named,
    is_inactive,
    number_sockets,
    widget_values,
)
from .layout import GAP_PX, TITLE_PX, free_place, position, size_of
from .mapping import (
    APPLY,
    APPLY_WIDGETS,
    COPIES,
    FEEDERS,
    KEPT_WIDGETS,
    MODEL_LOADER,
    NEW_LOADER_WIDGETS,
    NEW_SOCKETS,
    OLD_NODES,
    OPTIONS_WIDGETS,
    PASSED_BY,
    Conversion,
    copy_values,
    names_older_file,
    new_file,
)
from .others import other_nodes_remarks
from .remarks import (
    apply_remarks,
    copy_remarks,
    face_loader_remarks,
    older_file_remark,
    options_remarks,
    passed_by_remark,
    stranger_remark,
)
from .tracing import Graphs

APPLY_SIZE, LOADER_SIZE = (315, 206), (315, 170)
NOTE_WIDTH, NOTE_LINE_PX, NOTE_LINE_CHARACTERS = 420, 20, 55
NOTE_TITLE = "What the conversion changed"
PACK_PROPERTIES = ("cnr_id", "aux_id", "ver")
"""Where ComfyUI's manager reads which pack a node belongs to."""


def convert_saved(workflow: dict[str, Any]) -> Conversion:
    """Convert a saved workflow, in place."""
    return _SavedConversion(workflow).convert()


@dataclass
class _Apply:
    """An old apply node and what was connected to it."""

    graph: Graph
    node: Node
    sources: dict[str, tuple[Graph, Node]]
    """Input -> the old loader or options behind it, maybe in another graph."""
    pulid_link: int | None = None

    @property
    def name(self) -> str:
        """For the remarks."""
        return f"PulidApplyFlux (node {self.node['id']})"


class _SavedConversion:
    """One conversion; its methods are its steps, in their order."""

    def __init__(self, workflow: dict[str, Any]):
        self.workflow = workflow
        self.graphs = Graphs(workflow)
        self.notes: dict[int, list[str]] = {id(graph): [] for graph in self.graphs.all}
        self.made: dict[tuple[int, int], Node] = {}
        """(graph, old model loader) -> PulidLoader"""
        self.copies: list[tuple[Node, str]] = []
        """Nodes of a copy of an old pack, and their own names."""
        self.replaced = 0

    def convert(self) -> Conversion:
        remarks = _group_node_remarks(self.workflow)
        if any(graph.of_type(*OLD_NODES) for graph in self.graphs.all):
            applies = self.replace_applies()
            self.replace_loaders(applies)
            self.tell_about_others()
            remarks += self.finish(applies)
        else:
            self.tell_about_others()
            remarks += [remark for notes in self.notes.values() for remark in notes]
        conversion = Conversion(self.workflow, [], self.replaced)
        conversion.tell(*remarks)
        return conversion

    def replace_applies(self) -> list[_Apply]:
        for graph in self.graphs.all:
            self.name_copies(graph)
            link_broadcasts(graph)
            self.bypass_what_is_passed_by(graph)
        applies = [
            self.traced(graph, node) for graph in self.graphs.all for node in graph.of_type(APPLY)
        ]
        for apply in applies:
            self.replace_apply(apply)
        return applies

    def replace_loaders(self, applies: list[_Apply]) -> None:
        drop_dead_ends(self.graphs)
        used = {id(node) for apply in applies for _, node in apply.sources.values()}
        for graph in self.graphs.all:
            drop_loaders(graph, used, self.tell, keep=(MODEL_LOADER,))
        for apply in applies:
            self.connect_loader(apply)
        for graph in self.graphs.all:
            drop_loaders(graph, used, self.tell)
        drop_promoted_widgets(self.graphs, self.tell)
        drop_dead_borders(self.graphs)
        root = self.graphs.all[0]
        for dropped in drop_emptied_subgraphs(self.graphs):
            for remark in self.notes.pop(id(dropped)):
                self.tell(root, remark)

    def name_copies(self, graph: Graph) -> None:
        """Call the copies of old nodes what they are copies of, with their values by name."""
        for node in graph.of_type(*COPIES):
            if COPIES[node["type"]] == APPLY:
                node["widgets_values"] = copy_values(node.get("widgets_values"))
            if node.get("title") == node["type"]:
                del node["title"]
            self.copies.append((node, node["type"]))
            node["type"] = COPIES[node["type"]]

    def bypass_what_is_passed_by(self, graph: Graph) -> None:
        for node in graph.of_type(*PASSED_BY):
            if not is_inactive(node):
                node["mode"] = BYPASSED
                name = f"{node['type']} (node {node['id']})"
                self.tell(graph, passed_by_remark(name, node["type"], "is bypassed"))

    # Who feeds an apply node

    def traced(self, graph: Graph, node: Node) -> _Apply:
        apply = _Apply(graph, node, {})
        for socket, feeders in FEEDERS.items():
            link = graph.link_into(node, socket)
            source = self.graphs.source_of(graph, link)
            if source and source[1]["type"] in feeders:
                apply.sources[socket] = source
            elif link:
                where = f"{source[1]['type']} (node {source[1]['id']})" if source else "elsewhere"
                self.tell(graph, stranger_remark(apply.name, socket, where))
        return apply

    # Replacing

    def replace_apply(self, apply: _Apply) -> None:
        graph, node = apply.graph, apply.node
        values = widget_values(node, APPLY_WIDGETS)
        old = {socket["name"]: socket for socket in node.get("inputs") or ()}
        linked = {name for name in old if graph.link_into(node, name)}
        saved = node.get("widgets_values")
        remarks = apply_remarks(apply.name, values, linked)
        for remark in remarks + copy_remarks(apply.name, saved if isinstance(saved, dict) else {}):
            self.tell(graph, remark)
        self.tell_about_loaders(apply)
        if link := graph.link_into(node, "pulid_flux"):
            apply.pulid_link = link.number
        for name in linked - {"model", "image", "attn_mask", *KEPT_WIDGETS}:
            graph.cut(graph.links[old[name]["link"]])
        inputs = [
            {"name": new, "type": kind, "link": old.get(name, {}).get("link")}
            for name, (new, kind) in NEW_SOCKETS.items()
        ]
        inputs += [_widget_input(name, "FLOAT", old) for name in KEPT_WIDGETS]
        _become(node, "PulidApplyFlux", inputs, [values[name] for name in KEPT_WIDGETS])
        node["size"] = [max(pair) for pair in zip(size_of(node), APPLY_SIZE, strict=True)]
        number_sockets(graph, node)
        self.replaced += 1

    def tell_about_loaders(self, apply: _Apply) -> None:
        face_graph, face = apply.sources.get("face_analysis", (apply.graph, None))
        remarks = []
        if face:
            provider = widget_values(face, {"provider": "CPU"})["provider"]
            is_linked = face_graph.link_into(face, "provider") is not None
            remarks += face_loader_remarks(
                face["type"], "a linked value" if is_linked else provider
            )
        if "options" in apply.sources:
            values = widget_values(apply.sources["options"][1], OPTIONS_WIDGETS)
            remarks += options_remarks(apply.name, values)
        for remark in remarks:
            self.tell(apply.graph, remark)

    def connect_loader(self, apply: _Apply) -> None:
        if apply.pulid_link is None:
            self.tell(apply.graph, f"{apply.name}: it had no loader. Connect a PulidLoader.")
        if apply.pulid_link is None or "pulid_flux" not in apply.sources:
            return
        graph, old = apply.sources["pulid_flux"]
        key = (id(apply.graph), id(old))
        if key not in self.made:
            if graph is not apply.graph:
                self.tell(
                    apply.graph,
                    f"{apply.name}: its loaders stood in another graph. A PulidLoader with their "
                    "values stands beside it; where a subgraph is used several times, those of its "
                    "first use.",
                )
            self.made[key] = self.make_loader(apply, graph, old)
        apply.graph.join(apply.pulid_link, self.made[key]["id"], 0, apply.node, 1)

    def make_loader(self, apply: _Apply, graph: Graph, old: Node) -> Node:
        taken = any(loader is old for loader in self.made.values())
        in_place = graph is apply.graph and not taken and not graph.links_from(old)
        values = NEW_LOADER_WIDGETS | {"pulid_file": self.file_of(apply, old)}
        link = input_named(old, "pulid_file") if in_place else None
        inputs = [
            _widget_input(name, "COMBO", {"pulid_file": link} if link else {}) for name in values
        ]
        loader = old if in_place else self.new_loader(apply, old)
        width = int(size_of(old)[0]) if graph is apply.graph else 0
        size = (max(width, LOADER_SIZE[0]), LOADER_SIZE[1])
        spots = [node for place, node in apply.sources.values() if place is apply.graph]
        places = [position(node) for node in [*spots, apply.node]]
        _become(loader, "PulidLoader", inputs, list(values.values()))
        loader["size"] = list(size)
        loader["outputs"] = [{"name": "PULID", "type": "PULID", "links": []}]
        loader["pos"] = free_place(apply.graph.nodes.values(), size, *places, ignored=loader)
        apply.graph.nodes[loader["id"]] = loader
        number_sockets(apply.graph, loader)
        self.replaced += 1
        return loader

    def file_of(self, apply: _Apply, old: Node) -> Any:
        file = widget_values(old, {"pulid_file": None})["pulid_file"]
        if file is None:
            self.tell(apply.graph, f"{apply.name}: no PuLID file was saved; PulidLoader takes one.")
        if names_older_file(file):
            self.tell(apply.graph, older_file_remark(apply.name))
        return "auto" if file is None else new_file(file)

    def new_loader(self, apply: _Apply, old: Node) -> Node:
        return {
            "id": self.graphs.free_id(),
            "type": "",
            "pos": list(position(apply.node)),
            "size": list(LOADER_SIZE),
            "flags": {},
            "order": old.get("order", 0),
            "mode": old.get("mode", 0),
        }

    # Finishing

    def tell(self, graph: Graph, remark: str) -> None:
        if remark not in self.notes[id(graph)]:
            self.notes[id(graph)].append(remark)

    def tell_about_others(self) -> None:
        has_ours = any(graph.of_type("PulidApplyFlux") for graph in self.graphs.all)
        for graph in self.graphs.all:
            nodes = [
                (node["id"], node["type"])
                for node in graph.nodes.values()
                if node["type"] not in self.graphs.definitions
            ]
            for remark in other_nodes_remarks(nodes, with_caches=has_ours):
                self.tell(graph, remark)

    def finish(self, applies: list[_Apply]) -> list[str]:
        for graph in self.graphs.all:
            written = {
                remark
                for note in graph.of_type("Note")
                if note.get("title") == NOTE_TITLE
                for remark in str((note.get("widgets_values") or [""])[0]).split("\n\n")
            }
            fresh = [remark for remark in self.notes[id(graph)] if remark not in written]
            if fresh:
                nearest = [apply.node for apply in applies if apply.graph is graph]
                anchor = (nearest or list(graph.nodes.values()) or [{"pos": [0, 0]}])[0]
                note = self.note(graph, anchor, fresh)
                graph.nodes[note["id"]] = note
        for node, kind in self.copies:
            if node["type"] in OLD_NODES:  # it stays
                node["type"] = kind
        for graph in self.graphs.all:
            graph.write()
            _raise_counter(graph, self.graphs.free_id() - 1)
        return [remark for graph in self.graphs.all for remark in self.notes[id(graph)]]

    def note(self, graph: Graph, anchor: Node, remarks: list[str]) -> Node:
        lines = sum(1 + len(remark) // NOTE_LINE_CHARACTERS for remark in remarks)
        size = (NOTE_WIDTH, 60 + NOTE_LINE_PX * (lines + len(remarks)))
        x, y = position(anchor)
        width, height = size_of(anchor)
        pos = free_place(
            graph.nodes.values(),
            size,
            (x + width + GAP_PX, y),
            (x - GAP_PX - size[0], y),
            (x, y - size[1] - TITLE_PX - GAP_PX),
            (x, y + height + TITLE_PX + GAP_PX),
        )
        return {
            "id": self.graphs.free_id(),
            "type": "Note",
            "pos": pos,
            "size": list(size),
            "flags": {},
            "order": max((node.get("order") or 0 for node in graph.nodes.values()), default=0) + 1,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": NOTE_TITLE,
            "properties": {},
            "widgets_values": ["\n\n".join(remarks)],
            "color": "#432",
            "bgcolor": "#653",
        }


def _become(node: Node, kind: str, inputs: list[dict[str, Any]], values: list[Any]) -> None:
    """Turn a node into one of ours; place, colours, title, mode and links stay."""
    properties = {
        name: value
        for name, value in (node.get("properties") or {}).items()
        if name not in PACK_PROPERTIES
    }
    if node.get("title") == node["type"]:
        del node["title"]
    node["type"], node["inputs"], node["widgets_values"] = kind, inputs, values
    node["properties"] = properties | {"Node name for S&R": kind}


def _widget_input(name: str, kind: str, old: dict[str, dict[str, Any]]) -> dict[str, Any]:
    link = old.get(name, {}).get("link")
    return {"name": name, "type": kind, "widget": {"name": name}, "link": link}


def _raise_counter(graph: Graph, last_node: int) -> None:
    last_link = max((number for number in graph.links if isinstance(number, int)), default=0)
    for holder, node_name, link_name in (
        (graph.saved, "last_node_id", "last_link_id"),
        (graph.saved.get("state"), "lastNodeId", "lastLinkId"),
    ):
        if holder and node_name in holder:
            holder[node_name] = max(holder[node_name] or 0, last_node)
            holder[link_name] = max(holder.get(link_name) or 0, last_link)


def _group_node_remarks(workflow: dict[str, Any]) -> list[str]:
    groups = (workflow.get("extra") or {}).get("groupNodes") or {}
    return [
        f"The group node {name} holds old nodes and is not converted. Turn it into single nodes "
        "in ComfyUI first."
        for name, group in groups.items()
        if any(node.get("type") in OLD_NODES for node in group.get("nodes") or ())
    ]
