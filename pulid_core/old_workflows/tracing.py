"""All graphs of a saved workflow, and the way from a link back to the node that makes its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .graph import SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS, Graph, Link, Node, subgraphs

ROUTES = ("Reroute", "GetNode", "SetNode")
"""Hand on what they get; the last two, KJNodes', by name."""


class Graphs:
    """The root graph and the subgraphs of a workflow."""

    def __init__(self, workflow: dict[str, Any]):
        self.workflow = workflow
        self.all = [Graph(workflow), *(Graph(saved) for saved in subgraphs(workflow))]
        self.definitions = {graph.saved["id"]: graph for graph in self.all[1:]}
        self.routes: list[tuple[Graph, Node]] = []
        """What was met on the way, of the types in ROUTES."""

    def instances(self, subgraph: Graph) -> Iterator[tuple[Graph, Node]]:
        """Where a subgraph is used."""
        for graph in self.all:
            for node in graph.of_type(subgraph.saved.get("id", "")):
                yield graph, node

    def source_of(self, graph: Graph, link: Link | None) -> tuple[Graph, Node] | None:
        """Follow a link upstream, through what only hands on, to the node that makes the value."""
        seen: set[tuple[int, Any, Any]] = set()
        while link is not None:
            end = id(graph), link.source, link.slot
            if end in seen:  # a ring of reroutes, or a subgraph within itself
                return None
            seen.add(end)
            if link.source == SUBGRAPH_INPUTS:
                graph, link = self._outside(graph, link.slot)
                continue
            node = graph.nodes.get(link.source)
            if node is None:
                return None
            if node["type"] in self.definitions:
                graph = self.definitions[node["type"]]
                link = border_link(graph, link.slot)
            elif node["type"] in ROUTES:
                self.routes.append((graph, node))
                link = _routed(graph, node)
            else:
                return graph, node
        return None

    def _outside(self, subgraph: Graph, slot: int) -> tuple[Graph, Link | None]:
        """What enters a subgraph at one of its inputs, where it is used first."""
        borders = subgraph.saved.get("inputs") or []
        if not (isinstance(slot, int) and 0 <= slot < len(borders)):
            return subgraph, None
        name = borders[slot]["name"]
        for outer, instance in self.instances(subgraph):
            return outer, outer.link_into(instance, name)
        return subgraph, None

    def free_id(self) -> int:
        """Above every node of every graph, and above every one there ever was."""
        state = self.workflow.get("state") or {}
        last = self.workflow.get("last_node_id") or state.get("lastNodeId")
        numbers = [key for graph in self.all for key in graph.nodes if isinstance(key, int)]
        return max([*numbers, last or 0]) + 1


def _routed(graph: Graph, node: Node) -> Link | None:
    """The link that a route goes on with upstream."""
    if node["type"] == "GetNode":
        setters = setters_of(graph, node)
        # The way goes on through the setter, which is a route of its own.
        return Link(0, setters[0]["id"], 0, node["id"], 0, "*", None) if setters else None
    return next((graph.link_at(socket) for socket in node.get("inputs") or ()), None)


def setters_of(graph: Graph, getter: Node) -> list[Node]:
    """KJNodes' SetNode with the name that a GetNode reads."""
    names = getter.get("widgets_values") or []
    return [node for node in graph.of_type("SetNode") if node.get("widgets_values") == names]


def is_from(link: Link, slot: int) -> bool:
    """Whether a link comes from this input of its subgraph."""
    return link.source == SUBGRAPH_INPUTS and link.slot == slot


def border_link(subgraph: Graph, slot: int) -> Link | None:
    """What a subgraph gives out at one of its outputs."""
    return next(
        (
            link
            for link in subgraph.links.values()
            if link.target == SUBGRAPH_OUTPUTS and link.socket == slot
        ),
        None,
    )
