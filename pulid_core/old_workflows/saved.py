"""Workflows as ComfyUI saves them, with their layout and their subgraphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .graph import (
    BYPASSED,
    GAP_PX,
    SUBGRAPH_INPUTS,
    SUBGRAPH_OUTPUTS,
    TITLE_PX,
    Graph,
    Link,
    Node,
    input_named,
    is_inactive,
    subgraphs,
    widget_values,
    xy,
)
from .mapping import (
    APPLY,
    APPLY_WIDGETS,
    FEEDERS,
    KEPT_WIDGETS,
    LOADERS,
    MODEL_LOADER,
    NEW_LOADER_WIDGETS,
    NEW_SOCKETS,
    OLD_NODES,
    OLD_TYPES,
    OPTIONS,
    OPTIONS_WIDGETS,
    PASSED_BY,
    Conversion,
    apply_remarks,
    as_provider,
    options_remarks,
    passed_by_remark,
    provider_remarks,
    staying_remark,
    stranger_remark,
)

ROUTES = ("Reroute", "GetNode", "SetNode")
"""Hand on what they get; the last two, KJNodes', by name."""
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
    provider: str = "auto"

    @property
    def name(self) -> str:
        """For the remarks."""
        return f"PulidApplyFlux (node {self.node['id']})"


class _SavedConversion:
    """One conversion; its methods are its steps, in their order."""

    def __init__(self, workflow: dict[str, Any]):
        self.workflow = workflow
        self.graphs = [Graph(workflow), *(Graph(saved) for saved in subgraphs(workflow))]
        self.definitions = {graph.saved.get("id"): graph for graph in self.graphs[1:]}
        self.notes: dict[int, list[str]] = {id(graph): [] for graph in self.graphs}
        self.routes: list[tuple[Graph, Node]] = []
        """What is on the way from an old loader, of the types in ROUTES."""
        self.made: dict[tuple[int, int, str], Node] = {}
        """(graph, old model loader, provider) -> PulidLoader"""
        self.replaced = 0

    def convert(self) -> Conversion:
        remarks = _group_node_remarks(self.workflow)
        if any(graph.of_type(*OLD_NODES) for graph in self.graphs):
            for graph in self.graphs:
                self.bypass_what_is_passed_by(graph)
            applies = [
                self.traced(graph, node) for graph in self.graphs for node in graph.of_type(APPLY)
            ]
            for apply in applies:
                self.replace_apply(apply)
            self.drop_dead_ends()
            used = {id(node) for apply in applies for _, node in apply.sources.values()}
            for graph in self.graphs:
                self.drop_loaders(graph, used, keep=(MODEL_LOADER,))
            for apply in applies:
                self.connect_loader(apply)
            for graph in self.graphs:
                self.drop_loaders(graph, used)
            self.drop_promoted_widgets()
            remarks += [remark for notes in self.notes.values() for remark in notes]
            self.finish(applies)
        return Conversion(self.workflow, remarks, self.replaced)

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
            source = self.source_of(graph, link)
            if source and source[1]["type"] in feeders:
                apply.sources[socket] = source
            elif link:
                where = f"{source[1]['type']} (node {source[1]['id']})" if source else "elsewhere"
                self.tell(graph, stranger_remark(apply.name, socket, where))
        return apply

    def source_of(self, graph: Graph, link: Link | None) -> tuple[Graph, Node] | None:
        """Follow a link upstream, through what only hands on, to the node that makes the value."""
        if link is None:
            return None
        if link.source == SUBGRAPH_INPUTS:
            border = graph.saved["inputs"][link.slot]["name"]
            for outer, instance in self.instances(graph):
                return self.source_of(outer, outer.link_into(instance, border))
            return None
        node = graph.nodes.get(link.source)
        if node is None:
            return None
        if node["type"] in self.definitions:
            inner = self.definitions[node["type"]]
            return self.source_of(inner, _border_link(inner, link.slot))
        if node["type"] in ROUTES:
            self.routes.append((graph, node))
            return self.source_of(graph, _routed(graph, node))
        return graph, node

    def instances(self, subgraph: Graph) -> Iterator[tuple[Graph, Node]]:
        """Where a subgraph is used."""
        for graph in self.graphs:
            for node in graph.of_type(subgraph.saved.get("id", "")):
                yield graph, node

    # Replacing

    def replace_apply(self, apply: _Apply) -> None:
        graph, node = apply.graph, apply.node
        values = widget_values(node, APPLY_WIDGETS)
        old = {socket["name"]: socket for socket in node.get("inputs") or ()}
        linked = {name for name in old if graph.link_into(node, name)}
        for remark in apply_remarks(apply.name, values, linked):
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
        node["size"] = _at_least(node, APPLY_SIZE)
        _number_sockets(graph, node)
        self.replaced += 1

    def tell_about_loaders(self, apply: _Apply) -> None:
        face_graph, face = apply.sources.get("face_analysis", (apply.graph, None))
        if face:
            apply.provider = as_provider(widget_values(face, {"provider": "CPU"})["provider"])
            if face_graph.link_into(face, "provider"):
                self.tell(
                    apply.graph,
                    f"{apply.name}: the connection to {face['type']}'s provider is gone; its last "
                    "value is set in PulidLoader.",
                )
        remarks = provider_remarks(face["type"] if face else None, apply.provider)
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
        key = (id(apply.graph), id(old), apply.provider)
        if key not in self.made:
            if graph is not apply.graph:
                self.tell(
                    apply.graph,
                    f"{apply.name}: its loaders stood in another graph. A PulidLoader with their "
                    "values stands beside it; where a subgraph is used several times, those of its "
                    "first use.",
                )
            self.made[key] = self.make_loader(apply, graph, old)
        number = apply.pulid_link
        apply.graph.connect(number, self.made[key], apply.node, 1)

    def make_loader(self, apply: _Apply, graph: Graph, old: Node) -> Node:
        taken = any(loader is old for loader in self.made.values())
        in_place = graph is apply.graph and not taken and not graph.links_from(old)
        file = widget_values(old, {"pulid_file": None})["pulid_file"]
        if file is None:
            file = "auto"
            self.tell(apply.graph, f"{apply.name}: no PuLID file was saved; PulidLoader takes one.")
        values = NEW_LOADER_WIDGETS | {"pulid_file": file, "provider": apply.provider}
        link = input_named(old, "pulid_file") if in_place else None
        inputs = [
            _widget_input(name, "COMBO", {"pulid_file": link} if link else {}) for name in values
        ]
        loader = old if in_place else self.new_loader(apply, old)
        size = (int(xy(old["size"])[0]) if graph is apply.graph else 0, 0)
        size = (max(size[0], LOADER_SIZE[0]), LOADER_SIZE[1])
        spots = [node for place, node in apply.sources.values() if place is apply.graph]
        places = [xy(node["pos"]) for node in [*spots, apply.node]]
        _become(loader, "PulidLoader", inputs, list(values.values()))
        loader["size"] = list(size)
        loader["outputs"] = [{"name": "PULID", "type": "PULID", "links": []}]
        loader["pos"] = apply.graph.free_place(size, *places, ignored=loader)
        apply.graph.nodes[loader["id"]] = loader
        _number_sockets(apply.graph, loader)
        self.replaced += 1
        return loader

    def new_loader(self, apply: _Apply, old: Node) -> Node:
        return {
            "id": self.free_id(),
            "type": "",
            "pos": list(xy(apply.node["pos"])),
            "size": list(LOADER_SIZE),
            "flags": {},
            "order": old.get("order", 0),
            "mode": old.get("mode", 0),
        }

    # Dropping

    def drop_dead_ends(self) -> None:
        """Remove what only led from the old loaders to the old apply nodes."""
        while self.drop_a_route() or self.drop_a_border_link():
            pass

    def drop_a_route(self) -> bool:
        for graph, node in self.routes:
            is_read = node["type"] == "SetNode" and any(
                node is setter
                for getter in graph.of_type("GetNode")
                for setter in _setters(graph, getter)
            )
            if node["id"] in graph.nodes and not graph.links_from(node) and not is_read:
                graph.remove(node)
                return True
        return False

    def drop_a_border_link(self) -> bool:
        for subgraph in self.definitions.values():
            for slot, border in enumerate(subgraph.saved.get("inputs") or ()):
                inside = [link for link in subgraph.links.values() if _is_from(link, slot)]
                if border["type"] in OLD_TYPES and not inside:
                    for graph, instance in self.instances(subgraph):
                        if link := graph.link_into(instance, border["name"]):
                            graph.cut(link)
                            return True
            for slot, border in enumerate(subgraph.saved.get("outputs") or ()):
                link = _border_link(subgraph, slot)
                if border["type"] in OLD_TYPES and link and not self.is_read(subgraph, slot):
                    subgraph.cut(link)
                    return True
        return False

    def is_read(self, subgraph: Graph, slot: int) -> bool:
        return any(
            link.slot == slot
            for graph, instance in self.instances(subgraph)
            for link in graph.links_from(instance)
        )

    def drop_loaders(self, graph: Graph, used: set[int], keep: tuple[str, ...] = ()) -> None:
        """Remove old loaders and options that feed nothing; say which ones stay.

        Args:
            graph: Where to look.
            used: Identities of those that the apply nodes were connected to.
            keep: Types that are not looked at yet.
        """
        for node in graph.of_type(*(kind for kind in (*LOADERS, OPTIONS) if kind not in keep)):
            name = f"{node['type']} (node {node['id']})"
            users = [graph.nodes.get(link.target) for link in graph.links_from(node)]
            strangers = [user for user in users if user and not is_inactive(user)]
            if not users:
                graph.remove(node)
                if id(node) not in used:
                    self.tell(graph, f"{name} was connected to nothing and is removed.")
            elif not strangers and None not in users:
                if not is_inactive(node):
                    node["mode"] = BYPASSED
            elif id(node) in used:
                user = strangers[0] if strangers else None
                text = f"{user['type']} (node {user['id']})" if user else "another graph"
                self.tell(graph, staying_remark(name, text))

    def drop_promoted_widgets(self) -> None:
        """Remove the widgets that a subgraph showed of nodes which are no more."""
        for subgraph in self.definitions.values():
            for graph, instance in self.instances(subgraph):
                promoted = instance.get("properties", {}).get("proxyWidgets") or []
                gone = [entry for entry in promoted if _is_gone(subgraph, entry)]
                for number, widget, *_ in gone:
                    self.tell(
                        graph,
                        f"{instance.get('title', 'Subgraph')} (node {instance['id']}): the widget "
                        f"{widget} of its node {number} is gone.",
                    )
                if gone:
                    kept = [entry for entry in promoted if entry not in gone]
                    instance["properties"]["proxyWidgets"] = kept

    # Finishing

    def tell(self, graph: Graph, remark: str) -> None:
        if remark not in self.notes[id(graph)]:
            self.notes[id(graph)].append(remark)

    def finish(self, applies: list[_Apply]) -> None:
        for graph in self.graphs:
            if remarks := self.notes[id(graph)]:
                nearest = [apply.node for apply in applies if apply.graph is graph]
                anchor = (nearest or list(graph.nodes.values()) or [{"pos": (0, 0)}])[0]
                note = self.note(graph, anchor, remarks)
                graph.nodes[note["id"]] = note
        for graph in self.graphs:
            graph.write()
            _raise_counter(graph, self.free_id() - 1)

    def note(self, graph: Graph, anchor: Node, remarks: list[str]) -> Node:
        lines = sum(1 + len(remark) // NOTE_LINE_CHARACTERS for remark in remarks)
        size = (NOTE_WIDTH, 60 + NOTE_LINE_PX * (lines + len(remarks)))
        x, y = xy(anchor["pos"])
        width, height = xy(anchor.get("size") or (0, 0))
        pos = graph.free_place(
            size,
            (x + width + GAP_PX, y),
            (x - GAP_PX - size[0], y),
            (x, y - size[1] - TITLE_PX - GAP_PX),
            (x, y + height + TITLE_PX + GAP_PX),
        )
        return {
            "id": self.free_id(),
            "type": "Note",
            "pos": pos,
            "size": list(size),
            "flags": {},
            "order": max((node.get("order", 0) for node in graph.nodes.values()), default=0) + 1,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": NOTE_TITLE,
            "properties": {},
            "widgets_values": ["\n\n".join(remarks)],
            "color": "#432",
            "bgcolor": "#653",
        }

    def free_id(self) -> int:
        """Above every node of every graph, and above every one there ever was."""
        last = self.workflow.get("last_node_id") or self.workflow.get("state", {}).get("lastNodeId")
        numbers = [key for graph in self.graphs for key in graph.nodes if isinstance(key, int)]
        return max([*numbers, last or 0]) + 1


def _become(node: Node, kind: str, inputs: list[dict], values: list) -> None:
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


def _widget_input(name: str, kind: str, old: dict[str, dict]) -> dict[str, Any]:
    link = old.get(name, {}).get("link")
    return {"name": name, "type": kind, "widget": {"name": name}, "link": link}


def _number_sockets(graph: Graph, node: Node) -> None:
    for number, socket in enumerate(node["inputs"]):
        if link := graph.link_at(socket):
            link.socket = number


def _at_least(node: Node, size: tuple[int, int]) -> list[float]:
    width, height = xy(node.get("size") or (0, 0))
    return [max(width, size[0]), max(height, size[1])]


def _raise_counter(graph: Graph, last_node: int) -> None:
    last_link = max(graph.links, default=0)
    for holder, node_name, link_name in (
        (graph.saved, "last_node_id", "last_link_id"),
        (graph.saved.get("state"), "lastNodeId", "lastLinkId"),
    ):
        if holder and node_name in holder:
            holder[node_name] = max(holder[node_name], last_node)
            holder[link_name] = max(holder.get(link_name) or 0, last_link)


def _routed(graph: Graph, node: Node) -> Link | None:
    """The link that a route goes on with upstream."""
    if node["type"] == "GetNode":
        setters = _setters(graph, node)
        # The way goes on through the setter, which is a route of its own.
        return Link(0, setters[0]["id"], 0, node["id"], 0, "*", None) if setters else None
    return next((graph.link_at(socket) for socket in node.get("inputs") or ()), None)


def _setters(graph: Graph, getter: Node) -> list[Node]:
    """KJNodes' SetNode with the name that a GetNode reads."""
    names = getter.get("widgets_values") or []
    return [node for node in graph.of_type("SetNode") if node.get("widgets_values") == names]


def _is_from(link: Link, slot: int) -> bool:
    return link.source == SUBGRAPH_INPUTS and link.slot == slot


def _border_link(subgraph: Graph, slot: int) -> Link | None:
    """What a subgraph gives out at one of its outputs."""
    return next(
        (
            link
            for link in subgraph.links.values()
            if link.target == SUBGRAPH_OUTPUTS and link.socket == slot
        ),
        None,
    )


def _is_gone(subgraph: Graph, promoted: list) -> bool:
    number, widget = str(promoted[0]), promoted[1]
    if number in subgraph.removed:
        return True
    node = next((node for key, node in subgraph.nodes.items() if str(key) == number), None)
    kept = {"PulidApplyFlux": KEPT_WIDGETS, "PulidLoader": NEW_LOADER_WIDGETS}
    return node is not None and node["type"] in kept and widget not in kept[node["type"]]


def _group_node_remarks(workflow: dict[str, Any]) -> list[str]:
    groups = (workflow.get("extra") or {}).get("groupNodes") or {}
    return [
        f"The group node {name} holds old nodes and is not converted. Turn it into single nodes "
        "in ComfyUI first."
        for name, group in groups.items()
        if any(node.get("type") in OLD_NODES for node in group.get("nodes") or ())
    ]
