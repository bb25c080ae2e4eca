"""A saved workflow's graph: nodes and links, whose two ends always agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Node = dict[str, Any]

SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = -10, -20
"""Ids that stand for a subgraph's own sockets at the ends of links."""
MUTED, BYPASSED = 2, 4


@dataclass
class Link:
    """From an output of one node to an input of another."""

    number: Any
    source: Any
    slot: Any
    target: Any
    socket: Any
    kind: str
    saved: Any
    """As it stands in the file: a list in format 0.4, a dict in format 1 and in subgraphs."""

    FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")

    @classmethod
    def read(cls, saved: list[Any] | dict[str, Any]) -> Link:
        """Take either form."""
        ends = saved if isinstance(saved, dict) else dict(zip(cls.FIELDS, saved, strict=False))
        number, source, slot, target, socket, kind = (ends.get(field) for field in cls.FIELDS)
        return cls(number, source, _slot(slot), target, _slot(socket), kind or "*", saved)

    def written(self) -> list[Any] | dict[str, Any]:
        """The same form, with what is in the file besides the link's ends."""
        values = (self.number, self.source, self.slot, self.target, self.socket, self.kind)
        if isinstance(self.saved, dict):
            return {**self.saved, **dict(zip(self.FIELDS, values, strict=True))}
        return [*values, *self.saved[6:]]


def _slot(number: Any) -> Any:
    """The number of an input or output, which some files hold as text."""
    return int(number) if isinstance(number, str) and number.isdecimal() else number


class Graph:
    """The root graph of a workflow, or one of its subgraphs; `write` puts changes into the file."""

    def __init__(self, saved: dict[str, Any]):
        self.saved = saved
        self.nodes: dict[Any, Node] = {node["id"]: node for node in saved["nodes"]}
        links = [Link.read(link) for link in saved.get("links") or () if link]
        self.links = {link.number: link for link in links}
        self.removed: set[str] = set()
        """Ids of the nodes that are no more."""

    def write(self) -> None:
        """Put nodes and links into the file's own structure."""
        self.saved["nodes"] = list(self.nodes.values())
        self.saved["links"] = [link.written() for link in self.links.values()]
        self._forget_dead_links()

    def of_type(self, *kinds: str) -> list[Node]:
        """All nodes of these types."""
        return [node for node in self.nodes.values() if node["type"] in kinds]

    def link_into(self, node: Node, name: str) -> Link | None:
        """The link at an input, None when there is none or no such input."""
        socket = input_named(node, name)
        return self.link_at(socket) if socket else None

    def link_at(self, socket: dict[str, Any]) -> Link | None:
        """The link that an input names."""
        number = socket.get("link")
        return None if number is None else self.links.get(number)

    def links_from(self, node: Node) -> list[Link]:
        """All links at the outputs of a node."""
        return [link for link in self.links.values() if link.source == node["id"]]

    def cut(self, link: Link) -> None:
        """Remove a link from both its ends."""
        del self.links[link.number]
        for node in (self.nodes.get(link.source), self.nodes.get(link.target)):
            for socket in (node or {}).get("inputs") or ():
                if socket.get("link") == link.number:
                    socket["link"] = None
            for output in (node or {}).get("outputs") or ():
                if link.number in (output.get("links") or ()):
                    output["links"].remove(link.number)

    def remove(self, node: Node) -> None:
        """Remove a node with its links."""
        for link in list(self.links.values()):
            if node["id"] in (link.source, link.target):
                self.cut(link)
        del self.nodes[node["id"]]
        self.removed.add(str(node["id"]))

    def join(self, number: int, source: Any, slot: int, target: Node, socket: int) -> None:
        """Link an output of a node to an input of another, under a free link id.

        Args:
            number: The link's id.
            source: Id of the node, or SUBGRAPH_INPUTS for a subgraph's own input.
            slot: The output's number.
            target: The other node.
            socket: The input's number.
        """
        output = self.outputs_of(source)[slot]
        kept = "linkIds" if source == SUBGRAPH_INPUTS else "links"
        ends = output[kept] = output.get(kept) or []
        saved = {} if self._links_are_dicts() else [None] * 6
        self.links[number] = Link(number, source, slot, target["id"], socket, output["type"], saved)
        ends.append(number)
        target["inputs"][socket]["link"] = number

    def outputs_of(self, source: Any) -> list[dict[str, Any]]:
        """The outputs of a node, or a subgraph's own inputs, which are outputs to its inside."""
        if source == SUBGRAPH_INPUTS:
            return self.saved.get("inputs") or []
        return self.nodes.get(source, {}).get("outputs") or []

    def free_link(self) -> int:
        """An id above those of all links that there are and were."""
        state = self.saved.get("state") or {}
        last = self.saved.get("last_link_id") or state.get("lastLinkId")
        return max([number for number in self.links if isinstance(number, int)] + [last or 0]) + 1

    def _links_are_dicts(self) -> bool:
        kinds = [type(link.saved) for link in self.links.values()]
        return dict in kinds or (not kinds and self.saved.get("version") == 1)

    def _forget_dead_links(self) -> None:
        """Drop removed links from the routes that they were drawn along, and from the borders."""
        extra = self.saved.get("extra") or {}
        for routes in (self.saved.get("reroutes"), extra.get("reroutes")):
            for route in routes or ():
                alive = [number for number in route.get("linkIds") or () if number in self.links]
                route["linkIds"] = alive
        if "linkExtensions" in extra:
            extra["linkExtensions"] = [
                e for e in extra["linkExtensions"] or () if e.get("id") in self.links
            ]
        if "inputNode" in self.saved:  # a subgraph
            for border in (*(self.saved.get("inputs") or ()), *(self.saved.get("outputs") or ())):
                alive = [number for number in border.get("linkIds") or () if number in self.links]
                border["linkIds"] = alive


def input_named(node: Node, name: str) -> dict[str, Any] | None:
    """The input of that name."""
    return next((s for s in node.get("inputs") or () if s["name"] == name), None)


def widget_values(node: Node, defaults: dict[str, Any]) -> dict[str, Any]:
    """Name the saved values, which stand in the order of `defaults`, and complete them."""
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        return defaults | {name: value for name, value in saved.items() if name in defaults}
    return defaults | dict(zip(defaults, saved, strict=False))


def is_inactive(node: Node) -> bool:
    """Whether the node does not run."""
    return node.get("mode", 0) in (MUTED, BYPASSED)


def subgraphs(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The definitions of a workflow's subgraphs."""
    yield from (workflow.get("definitions") or {}).get("subgraphs") or ()


def number_sockets(graph: Graph, node: Node) -> None:
    """Tell the links at a node's inputs where these are now."""
    for number, socket in enumerate(node.get("inputs") or ()):
        if link := graph.link_at(socket):
            link.socket = number
