"""Workflows in API format."""

from __future__ import annotations

from typing import Any

from .mapping import (
    APPLY,
    COPIES,
    FACE_DETECTOR,
    FEEDERS,
    KEPT_WIDGETS,
    LOADERS,
    NEW_LOADER_WIDGETS,
    NEW_SOCKETS,
    OLD_NODES,
    OPTIONS,
    OPTIONS_WIDGETS,
    PASSED_BY,
    Conversion,
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
    staying_remark,
    stranger_remark,
)


def convert_prompt(prompt: dict[str, Any]) -> Conversion:
    """Convert a workflow in API format, in place.

    Inputs that the prompt lacks are not made up, so that ComfyUI still names them; except for what
    the old nodes did not have.
    """
    conversion = Conversion(prompt)
    if any(node["class_type"] in OLD_NODES for node in _nodes(prompt).values()):
        _convert_old_nodes(conversion)
    kinds = [(key, node["class_type"]) for key, node in _nodes(prompt).items()]
    has_ours = any(kind == "PulidApplyFlux" for _, kind in kinds)
    conversion.tell(*other_nodes_remarks(kinds, with_caches=has_ours))
    return conversion


def is_node(value: Any) -> bool:
    """Whether this is a node in API format."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("class_type"), str)
        and isinstance(value.get("inputs"), dict)
    )


def _nodes(prompt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: node for key, node in prompt.items() if is_node(node)}


def _convert_old_nodes(conversion: Conversion) -> None:
    prompt = conversion.workflow
    for key in [key for key, node in prompt.items() if not is_node(node)]:
        del prompt[key]
        conversion.tell(f"The entry {key} was removed: it is no node, and ComfyUI takes no other.")
    olds = {key: node for key, node in prompt.items() if node["class_type"] in OLD_NODES}
    copies = {key: node["class_type"] for key, node in olds.items() if node["class_type"] in COPIES}
    for key, kind in copies.items():
        olds[key]["class_type"] = COPIES[kind]
    _pass_by(conversion, olds)
    made: dict[str, str] = {}
    for key in [key for key, node in olds.items() if node["class_type"] == APPLY]:
        _convert_prompt_apply(conversion, key, olds, made)
    for key, node in olds.items():
        if node["class_type"] in (*LOADERS, OPTIONS):
            _drop_from_prompt(conversion, key, node, made)
    for key, kind in copies.items():
        if prompt.get(key, {}).get("class_type") in OLD_NODES:  # it stays
            prompt[key]["class_type"] = kind


def _pass_by(conversion: Conversion, olds: dict[str, dict[str, Any]]) -> None:
    prompt = conversion.workflow
    for key, node in olds.items():
        kind = node["class_type"]
        if kind not in PASSED_BY:
            continue
        source = node["inputs"].get("image" if kind == FACE_DETECTOR else "model")
        for user in prompt.values():
            for socket, value in list(user["inputs"].items()):
                if _source(value) != key:
                    continue
                if source is None:
                    del user["inputs"][socket]
                else:
                    user["inputs"][socket] = source
        del prompt[key]
        conversion.tell(passed_by_remark(f"{kind} (node {key})", kind, "was removed"))


def _convert_prompt_apply(
    conversion: Conversion, key: str, olds: dict[str, dict[str, Any]], made: dict[str, str]
) -> None:
    prompt, node = conversion.workflow, conversion.workflow[key]
    old, name = node["inputs"], f"PulidApplyFlux (node {key})"
    linked = {socket for socket, value in old.items() if _source(value) is not None}
    conversion.tell(*apply_remarks(name, old, linked), *copy_remarks(name, old))
    sources = {}
    for socket, feeders in FEEDERS.items():
        source = _source(old.get(socket))
        if source in olds and olds[source]["class_type"] in feeders:
            sources[socket] = source
        elif source is not None:
            stranger = f"{prompt.get(source, {}).get('class_type', 'a node')} (node {source})"
            conversion.tell(stranger_remark(name, socket, stranger))
    if options := sources.get("options"):
        chosen = OPTIONS_WIDGETS | olds[options]["inputs"]
        conversion.tell(*options_remarks(name, chosen))
    node["class_type"] = "PulidApplyFlux"
    node["inputs"] = {
        NEW_SOCKETS[socket][0] if socket in NEW_SOCKETS else socket: value
        for socket, value in old.items()
        if socket in (*NEW_SOCKETS, *KEPT_WIDGETS) and socket != "pulid_flux"
    }
    conversion.replaced += 1
    if "pulid_flux" in sources:
        node["inputs"]["pulid"] = [_prompt_loader(conversion, sources, olds, made), 0]


def _prompt_loader(
    conversion: Conversion,
    sources: dict[str, str],
    olds: dict[str, dict[str, Any]],
    made: dict[str, str],
) -> str:
    """The id of the PulidLoader for these old loaders, made when it is not there yet."""
    prompt, old = conversion.workflow, sources["pulid_flux"]
    if face := olds.get(sources.get("face_analysis", "")):
        provider = face["inputs"].get("provider", "CPU")
        conversion.tell(*face_loader_remarks(face["class_type"], provider))
    if old in made:
        return made[old]
    in_place = old not in made.values() and not any(
        _source(value) == old
        for user in prompt.values()
        if user["class_type"] != APPLY
        for value in user["inputs"].values()
    )
    key = old if in_place else _free_key(prompt)
    values = NEW_LOADER_WIDGETS.copy()
    del values["pulid_file"]
    file = {n: new_file(v) for n, v in olds[old]["inputs"].items() if n == "pulid_file"}
    if names_older_file(olds[old]["inputs"].get("pulid_file")):
        conversion.tell(older_file_remark(f"PulidLoader (node {key})"))
    prompt[key] = {"class_type": "PulidLoader", "inputs": file | values}
    if "_meta" in olds[old]:
        prompt[key]["_meta"] = {"title": "Load PuLID (FLUX)"}
    conversion.replaced += 1
    made[old] = key
    return key


def _drop_from_prompt(
    conversion: Conversion, key: str, node: dict[str, Any], made: dict[str, str]
) -> None:
    prompt = conversion.workflow
    if key in made.values():
        return
    users = [
        f"{user['class_type']} (node {other})"
        for other, user in prompt.items()
        if any(_source(value) == key for value in user["inputs"].values())
    ]
    name = f"{node['class_type']} (node {key})"
    if users:
        conversion.tell(staying_remark(name, users[0]))
    else:
        del prompt[key]


def _source(value: Any) -> str | None:
    """The node that an input in API format comes from."""
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))
    return str(value[0]) if is_link else None


def _free_key(prompt: dict[str, Any]) -> str:
    return str(max([int(key) for key in prompt if key.isdecimal()], default=0) + 1)
