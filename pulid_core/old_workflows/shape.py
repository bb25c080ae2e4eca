"""Whether a saved workflow is built as ComfyUI builds them, before anything relies on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import OldWorkflowError
from .graph import Link

DEEPEST = 100
"""Lists and objects within each other; ComfyUI's own files have about ten."""
TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    type(None): "nothing",
}


def check_depth(value: Any) -> None:
    """Refuse what is nested beyond all reason.

    Raises:
        OldWorkflowError: It is.
    """
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise OldWorkflowError(
        f"A ComfyUI workflow was expected, but this JSON is nested more than {DEEPEST} deep. "
        "Save it in ComfyUI anew."
    )


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def check_saved(workflow: dict[str, Any]) -> None:
    """Refuse a saved workflow with values of another kind than ComfyUI saves.

    Raises:
        OldWorkflowError: Names the first such value.
    """
    _check_graph(workflow, "the workflow")
    definitions = _expect(workflow.get("definitions"), "definitions", dict, None) or {}
    for number, saved in _items(definitions.get("subgraphs"), "subgraphs"):
        where = f"subgraph {number}"
        _expect(saved.get("id"), f"{where}'s id", str)
        _expect(saved.get("nodes"), f"{where}'s nodes", list)
        _check_graph(saved, where)
    extra = _expect(workflow.get("extra"), "extra", dict, None) or {}
    groups = _expect(extra.get("groupNodes"), "groupNodes", dict, None) or {}
    for name, group in groups.items():
        _expect(group, f"the group node {name}", dict)
        list(_items(group.get("nodes"), f"the group node {name}'s nodes"))


def _check_graph(saved: dict[str, Any], where: str) -> None:
    _check_counters(saved, where)
    seen = set()
    for number, node in _items(saved.get("nodes"), f"{where}'s nodes"):
        key = _expect(node.get("id"), f"the id of node number {number} in {where}", int, str)
        if key in seen:
            raise OldWorkflowError(
                f"Two nodes of {where} have the id {key}. Open the workflow in ComfyUI and save "
                "it anew, which numbers them."
            )
        seen.add(key)
        _check_node(node, f"node {key}")
    _check_links(saved, where)
    _check_borders(saved, where)


def _check_borders(saved: dict[str, Any], where: str) -> None:
    for side in ("inputs", "outputs"):
        for _, border in _items(saved.get(side), f"{where}'s {side}"):
            for name in ("name", "type"):
                _expect(border.get(name), f"the {name} of {where}'s {side}", str)
            list(_items(border.get("linkIds"), f"the linkIds of {where}'s {side}", int, str))


def _check_counters(saved: dict[str, Any], where: str) -> None:
    state = _expect(saved.get("state"), f"{where}'s state", dict, None) or {}
    for holder, names in (
        (saved, ("last_node_id", "last_link_id")),
        (state, ("lastNodeId", "lastLinkId")),
    ):
        for name in names:
            _expect(holder.get(name), f"{where}'s {name}", int, None)


def _check_links(saved: dict[str, Any], where: str) -> None:
    for _, link in _items(saved.get("links"), f"{where}'s links", dict, list, None):
        if link:
            read = Link.read(link)
            for end in (read.number, read.source, read.target):
                _expect(end, f"an end of a link in {where}", int, str)
            for slot in (read.slot, read.socket):
                _expect(slot, f"the place of a link in {where}", int)
            _expect(read.kind, f"the type of a link in {where}", str, int)
    extra = _expect(saved.get("extra"), f"{where}'s extra", dict, None) or {}
    list(_items(extra.get("ue_links"), f"{where}'s ue_links"))
    for _, entry in _items(extra.get("linkExtensions"), f"{where}'s linkExtensions"):
        _expect(entry.get("id"), f"a link in {where}'s linkExtensions", int, str, None)
    for holder in (extra, saved):
        for _, route in _items(holder.get("reroutes"), f"{where}'s reroutes"):
            list(_items(route.get("linkIds"), f"the linkIds of {where}'s reroutes", int, str))


def _check_node(node: dict[str, Any], where: str) -> None:
    _expect(node.get("type"), f"the type of {where}", str)
    properties = _expect(node.get("properties"), f"the properties of {where}", dict, None) or {}
    promoted = f"the proxyWidgets of {where}"
    for _, entry in _items(properties.get("proxyWidgets"), promoted, list):
        if len(entry) < 2 or not all(isinstance(part, (str, int)) for part in entry[:2]):
            raise OldWorkflowError(f"Each of {promoted} should name a node and a widget of it.")
    _expect(node.get("widgets_values"), f"the widgets_values of {where}", list, dict, None)
    _expect(node.get("order"), f"the order of {where}", int, None)
    for _, socket in _items(node.get("inputs"), f"the inputs of {where}"):
        _expect(socket.get("name"), f"an input's name of {where}", str)
        _expect(socket.get("link"), f"an input's link of {where}", int, str, None)
    for _, output in _items(node.get("outputs"), f"the outputs of {where}"):
        _expect(output.get("links"), f"an output's links of {where}", list, None)
        _expect(output.get("type", ""), f"an output's type of {where}", str, int)
        for link in output.get("links") or ():
            _expect(link, f"an output's link of {where}", int, str, None)


def _items(value: Any, where: str, *kinds: type | None) -> Iterator[tuple[int, Any]]:
    """The entries of a list that may be absent, each of the kinds given, by default objects."""
    for number, entry in enumerate(_expect(value, where, list, None) or ()):
        yield number, _expect(entry, f"each of {where}", *(kinds or (dict,)))


def _expect(value: Any, where: str, *kinds: type | None) -> Any:
    types = tuple(type(None) if kind is None else kind for kind in kinds)
    if isinstance(value, types):
        return value
    wanted = " or ".join(TYPE_NAMES[kind] for kind in types)
    raise OldWorkflowError(
        f"{where[0].upper()}{where[1:]} should be {wanted}, but is "
        f"{TYPE_NAMES.get(type(value), type(value).__name__)}. Save the workflow in ComfyUI anew."
    )
