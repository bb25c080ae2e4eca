"""A workflow as the frontend saves it -> the prompt that the server runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MUTED, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class WorkflowError(Exception):
    """The workflow cannot be turned into a prompt."""


@dataclass(frozen=True)
class Value:
    """What arrives over a link from a primitive node: no link any more, but its value."""

    value: Any


def to_prompt(workflow: dict, object_info: dict[str, dict]) -> dict[str, dict]:
    """Convert a workflow of format 0.4 into a prompt in API format.

    Args:
        workflow: What the frontend saves.
        object_info: The server's answer to GET /object_info, all node types.

    Raises:
        WorkflowError: A node type is unknown to this server.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    # (node, slot) that each link comes from
    links = {link[0]: (nodes[link[1]], link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if is_virtual(node) or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise WorkflowError(
                f"Node {node['id']} is a {node['type']}, which this ComfyUI does not know. "
                "Install the custom nodes it belongs to, or remove it."
            )
        inputs = widget_inputs(node, object_info[node["type"]])
        inputs |= linked_inputs(node, links)
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", node["type"])},
        }
    return prompt


def is_virtual(node: dict) -> bool:
    """Whether a node lives in the frontend only."""
    return node["type"] in (*NOTES, "Reroute", "PrimitiveNode")


def widget_inputs(node: dict, info: dict) -> dict[str, Any]:
    """Name the saved widget values; the frontend saves them without names, in schema order."""
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        names = {name for name, _, _ in widgets(info)}
        return {name: value for name, value in saved.items() if name in names}
    values = iter(saved)
    inputs = {}
    for name, kind, options in widgets(info):
        for value in values:
            inputs[name] = value
            break
        if has_companion(name, kind, options):
            next(values, None)
    return inputs


def widgets(info: dict) -> Iterator[tuple[str, str, dict]]:
    """Name, type and options of each input that the frontend shows as a widget, in order."""
    for group in ("required", "optional"):
        for name, spec in info["input"].get(group, {}).items():
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            options = spec[1] if len(spec) > 1 else {}
            if kind in WIDGET_TYPES and not options.get("forceInput"):
                yield name, kind, options


def has_companion(name: str, kind: str, options: dict) -> bool:
    """Whether the frontend saves a second value: what happens to the seed, or the upload button."""
    if options.get("control_after_generate") or options.get("image_upload"):
        return True
    return kind == "INT" and name in ("seed", "noise_seed")


def linked_inputs(node: dict, links: dict[int, tuple[dict, int]]) -> dict[str, Any]:
    inputs = {}
    for socket in node.get("inputs", []):
        source = resolve(socket.get("link"), links)
        if isinstance(source, Value):
            inputs[socket["name"]] = source.value
        elif source:
            inputs[socket["name"]] = source
    return inputs


def resolve(link: int | None, links: dict[int, tuple[dict, int]]) -> list | Value | None:
    """Follow a link upstream, through reroutes and bypassed nodes, to what the server runs."""
    if link is None or link not in links:
        return None
    node, slot = links[link]
    if node.get("mode", 0) == MUTED:
        return None
    if node["type"] == "PrimitiveNode":
        return Value(node["widgets_values"][0])
    if node["type"] == "Reroute":
        return resolve(node["inputs"][0].get("link"), links)
    if node.get("mode", 0) == BYPASSED:
        return resolve(bypass(node, slot), links)
    return [str(node["id"]), slot]


def bypass(node: dict, slot: int) -> int | None:
    """The link that a bypassed node hands on at an output: same place first, then same type."""
    kind = node["outputs"][slot]["type"]
    sockets = node.get("inputs", [])
    candidates = [*sockets[slot : slot + 1], *sockets]
    return next((socket.get("link") for socket in candidates if socket["type"] == kind), None)
