"""What `Use Everywhere` hands to inputs without a link, made into links.

Its nodes broadcast what comes in at them to every open input of that type. The pack saves where its
broadcasts went as `extra.ue_links`; a file without that list is read by the same rule.
"""

from __future__ import annotations

import re
from typing import Any

from .graph import SUBGRAPH_INPUTS, Graph, Link, Node, is_inactive
from .mapping import APPLY, FEEDERS, OLD_TYPES

BROADCASTERS = ("Anything Everywhere", "Anything Everywhere3", "Anything Everywhere?")
FED = (*FEEDERS, "image")
"""Inputs of an apply node that get another name or type, which a broadcast would not find."""


def link_broadcasts(graph: Graph) -> None:
    """Give the old apply nodes links for what was broadcast to them; end broadcasts of old types."""
    for node in graph.of_type(APPLY):
        for number, socket in enumerate(node.get("inputs") or ()):
            if socket["name"] in FED and graph.link_at(socket) is None:
                source = _saved_source(graph, node, number) or _source(graph, node, socket)
                if source:
                    graph.join(graph.free_link(), *source, node, number)
                    _forget(graph, node, number)
    for node in graph.of_type(*BROADCASTERS):
        links = _links_into(graph, node)
        ended = [k for k in links if k.kind in OLD_TYPES and not _is_awaited(graph, k.kind)]
        for link in ended:
            graph.cut(link)
        if ended and len(ended) == len(links):
            graph.remove(node)


def _saved_links(graph: Graph) -> list[dict[str, Any]]:
    return (graph.saved.get("extra") or {}).get("ue_links") or []


def _is_into(link: dict[str, Any], node: Node, number: int) -> bool:
    """Whether a saved broadcast went to this input."""
    return (str(link.get("downstream")), link.get("downstream_slot")) == (str(node["id"]), number)


def _saved_source(graph: Graph, node: Node, number: int) -> tuple[Any, int] | None:
    """What the file says that the input got."""
    for link in _saved_links(graph):
        if _is_into(link, node, number):
            sources = [SUBGRAPH_INPUTS, *graph.nodes]
            source = next((k for k in sources if str(k) == str(link.get("upstream"))), None)
            slot: Any = link.get("upstream_slot")
            if _has_output(graph, source, slot):
                return source, slot
    return None


def _forget(graph: Graph, node: Node, number: int) -> None:
    """Drop what is a real link now from the list of broadcasts."""
    if links := _saved_links(graph):
        kept = [link for link in links if not _is_into(link, node, number)]
        graph.saved["extra"]["ue_links"] = kept


def _has_output(graph: Graph, source: Any, slot: Any) -> bool:
    return isinstance(slot, int) and 0 <= slot < len(graph.outputs_of(source))


def _source(graph: Graph, node: Node, socket: dict[str, Any]) -> tuple[Any, int] | None:
    """What the input gets; the broadcast with rules that it fits goes before those without."""
    fitting = [
        (bool(_rules(caster)), link)
        for caster in graph.of_type(*BROADCASTERS)
        if not is_inactive(caster) and _fits(caster, node, socket)
        for link in _links_into(graph, caster)
        if link.kind == socket.get("type") and _has_output(graph, link.source, link.slot)
    ]
    fitting.sort(key=lambda found: found[0], reverse=True)
    return (fitting[0][1].source, fitting[0][1].slot) if fitting else None


def _links_into(graph: Graph, node: Node) -> list[Link]:
    return [link for socket in node.get("inputs") or () if (link := graph.link_at(socket))]


def _rules(caster: Node) -> dict[str, tuple[str, bool]]:
    """Patterns for the title of a node and the name of its input, and whether they must not fit."""
    saved = (caster.get("properties") or {}).get("ue_properties")
    saved = saved if isinstance(saved, dict) else {}
    values = caster.get("widgets_values") if caster["type"].endswith("?") else ()
    values = values if isinstance(values, list) else ()
    old = dict(zip(("title_regex", "input_regex"), values, strict=False))
    rules = {}
    for name in ("title_regex", "input_regex"):
        pattern = saved.get(name) or old.get(name)
        if isinstance(pattern, str) and pattern not in ("", ".*"):
            rules[name] = pattern, bool(saved.get(f"{name}_invert"))
    return rules


def _fits(caster: Node, node: Node, socket: dict[str, Any]) -> bool:
    names = {"title_regex": node.get("title") or node["type"], "input_regex": socket["name"]}
    try:
        return all(
            (re.search(pattern, str(names[name])) is None) == must_not
            for name, (pattern, must_not) in _rules(caster).items()
        )
    except re.error:
        return False


def _is_awaited(graph: Graph, kind: str) -> bool:
    """Whether another node still has an open input for a broadcast of this type."""
    return any(
        socket.get("type") == kind and graph.link_at(socket) is None
        for node in graph.nodes.values()
        if node["type"] != APPLY
        for socket in node.get("inputs") or ()
    )
