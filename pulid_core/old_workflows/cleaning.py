"""Removing from a saved workflow what only served the old nodes."""

from __future__ import annotations

from collections.abc import Callable

from .graph import (
    BYPASSED,
    SUBGRAPH_INPUTS,
    SUBGRAPH_OUTPUTS,
    Graph,
    is_inactive,
    number_sockets,
)
from .mapping import KEPT_WIDGETS, LOADERS, NEW_LOADER_WIDGETS, OLD_TYPES, OPTIONS
from .remarks import staying_remark
from .tracing import Graphs, border_link, is_from, setters_of

Tell = Callable[[Graph, str], None]
"""Takes the graph that a remark is about, and the remark."""


def drop_dead_ends(graphs: Graphs) -> None:
    """Remove what only led from the old loaders to the old apply nodes."""
    while _drop_a_route(graphs) or _drop_a_border_link(graphs):
        pass


def _drop_a_route(graphs: Graphs) -> bool:
    for graph, node in graphs.routes:
        is_read = node["type"] == "SetNode" and any(
            node is setter
            for getter in graph.of_type("GetNode")
            for setter in setters_of(graph, getter)
        )
        if node["id"] in graph.nodes and not graph.links_from(node) and not is_read:
            graph.remove(node)
            return True
    return False


def _drop_a_border_link(graphs: Graphs) -> bool:
    for subgraph in graphs.definitions.values():
        for slot, border in enumerate(subgraph.saved.get("inputs") or ()):
            if border["type"] in OLD_TYPES and not _is_used_inside(subgraph, slot):
                for graph, instance in graphs.instances(subgraph):
                    if link := graph.link_into(instance, border["name"]):
                        graph.cut(link)
                        return True
        for slot, border in enumerate(subgraph.saved.get("outputs") or ()):
            link = border_link(subgraph, slot)
            if border["type"] in OLD_TYPES and link and not _is_read(graphs, subgraph, slot):
                subgraph.cut(link)
                return True
    return False


def _is_used_inside(subgraph: Graph, slot: int) -> bool:
    return any(is_from(link, slot) for link in subgraph.links.values())


def _is_read(graphs: Graphs, subgraph: Graph, slot: int) -> bool:
    return any(
        link.slot == slot
        for graph, instance in graphs.instances(subgraph)
        for link in graph.links_from(instance)
    )


def drop_loaders(graph: Graph, used: set[int], tell: Tell, keep: tuple[str, ...] = ()) -> None:
    """Remove old loaders and options that feed nothing; say which ones stay.

    Args:
        graph: Where to look.
        used: Identities of those that the apply nodes were connected to.
        tell: Takes what is to be said.
        keep: Types that are not looked at yet.
    """
    for node in graph.of_type(*(kind for kind in (*LOADERS, OPTIONS) if kind not in keep)):
        name = f"{node['type']} (node {node['id']})"
        users = [graph.nodes.get(link.target) for link in graph.links_from(node)]
        strangers = [user for user in users if user and not is_inactive(user)]
        if not users:
            graph.remove(node)
            if id(node) not in used:
                tell(graph, f"{name} was connected to nothing and is removed.")
        elif strangers or None in users:
            user = strangers[0] if strangers else None
            text = f"{user['type']} (node {user['id']})" if user else "another graph"
            tell(graph, staying_remark(name, text))
        elif not is_inactive(node):
            node["mode"] = BYPASSED


def drop_dead_borders(graphs: Graphs) -> None:
    """Remove a subgraph's inputs and outputs of old types that lead nowhere any more."""
    for subgraph in graphs.definitions.values():
        for slot in _old_borders(subgraph, "inputs"):
            if not _is_used_inside(subgraph, slot):
                _drop_input(graphs, subgraph, slot)
        for slot in _old_borders(subgraph, "outputs"):
            if border_link(subgraph, slot) is None and not _is_read(graphs, subgraph, slot):
                _drop_output(graphs, subgraph, slot)


def _old_borders(subgraph: Graph, side: str) -> list[int]:
    """Their numbers, the last first, so that removing one leaves the others' as they are."""
    borders = list(enumerate(subgraph.saved.get(side) or ()))
    return [slot for slot, border in reversed(borders) if border["type"] in OLD_TYPES]


def _drop_input(graphs: Graphs, subgraph: Graph, slot: int) -> None:
    name = subgraph.saved["inputs"].pop(slot)["name"]
    for link in subgraph.links.values():
        if link.source == SUBGRAPH_INPUTS and link.slot > slot:
            link.slot -= 1
    for graph, instance in graphs.instances(subgraph):
        sockets = instance.get("inputs") or []
        instance["inputs"] = [socket for socket in sockets if socket["name"] != name]
        number_sockets(graph, instance)


def _drop_output(graphs: Graphs, subgraph: Graph, slot: int) -> None:
    subgraph.saved["outputs"].pop(slot)
    for link in subgraph.links.values():
        if link.target == SUBGRAPH_OUTPUTS and link.socket > slot:
            link.socket -= 1
    for graph, instance in graphs.instances(subgraph):
        del (instance.get("outputs") or [])[slot : slot + 1]
        for link in graph.links_from(instance):
            if link.slot > slot:
                link.slot -= 1


def drop_emptied_subgraphs(graphs: Graphs) -> list[Graph]:
    """Remove subgraphs in which nothing is left, wherever they are used; returns them."""
    dropped = []
    while empty := next((g for g in graphs.definitions.values() if _is_emptied(g)), None):
        for graph, instance in list(graphs.instances(empty)):
            graph.remove(instance)
        del graphs.definitions[empty.saved["id"]]
        graphs.all.remove(empty)
        graphs.workflow["definitions"]["subgraphs"].remove(empty.saved)
        dropped.append(empty)
    return dropped


def _is_emptied(subgraph: Graph) -> bool:
    return bool(subgraph.removed) and not subgraph.nodes and not subgraph.links


def drop_promoted_widgets(graphs: Graphs, tell: Tell) -> None:
    """Remove the widgets that a subgraph showed of nodes which are no more."""
    for subgraph in graphs.definitions.values():
        for graph, instance in graphs.instances(subgraph):
            promoted = (instance.get("properties") or {}).get("proxyWidgets") or []
            gone = [entry for entry in promoted if _is_gone(subgraph, entry)]
            for number, widget, *_ in gone:
                tell(
                    graph,
                    f"{instance.get('title', 'Subgraph')} (node {instance['id']}): the widget "
                    f"{widget} of its node {number} is gone.",
                )
            if gone:
                kept = [entry for entry in promoted if entry not in gone]
                instance["properties"]["proxyWidgets"] = kept


def _is_gone(subgraph: Graph, promoted: list[object]) -> bool:
    number, widget = str(promoted[0]), promoted[1]
    if number in subgraph.removed:
        return True
    node = next((node for key, node in subgraph.nodes.items() if str(key) == number), None)
    kept = {"PulidApplyFlux": KEPT_WIDGETS, "PulidLoader": NEW_LOADER_WIDGETS}
    return node is not None and node["type"] in kept and widget not in kept[node["type"]]
