"""Which nodes of a prompt in API format feed which."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple, TypeGuard


def is_prompt(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether something that was sent is nodes by id, each with inputs."""
    return isinstance(value, dict) and all(
        isinstance(node, dict) and isinstance(node.get("inputs"), dict) for node in value.values()
    )


def without_input(prompt: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    """A copy without one input of a node, and without the nodes that fed nothing else.

    Args:
        prompt: Nodes by id.
        key: Of the node; nothing is left out when it has no such input.
    """
    if key not in prompt or name not in prompt[key]["inputs"]:
        return prompt
    inputs = {other: value for other, value in prompt[key]["inputs"].items() if other != name}
    cut = prompt | {key: prompt[key] | {"inputs": inputs}}
    branch = _upstream(prompt, _sources({name: prompt[key]["inputs"][name]}))
    used = _upstream(cut, set(cut) - branch)
    return {other: node for other, node in cut.items() if other in used}


def _upstream(prompt: dict[str, Any], keys: Iterable[str]) -> set[str]:
    """Some nodes, and all that feed them."""
    found: set[str] = set()
    waiting = [key for key in keys if key in prompt]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += [source for source in _sources(prompt[key]["inputs"]) if source in prompt]
    return found


def _sources(inputs: dict[str, Any]) -> list[str]:
    """The nodes that inputs are linked to."""
    return [
        value[0]
        for value in inputs.values()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    ]


class SharedJob(NamedTuple):
    """What ComfyUI-Distributed has several machines do.

    Attributes:
        name: The same on all of them.
        workers: Ids of those that take part beside the master.
        worker: Id of the one whose prompt it was read from; empty on the master.
    """

    name: str
    workers: frozenset[str]
    worker: str


def shared_job(prompt: dict[str, Any]) -> SharedJob | None:
    """The job of ComfyUI-Distributed that a prompt is part of, if any."""
    for key in _shared(prompt):
        inputs = prompt[key]["inputs"]
        if name := inputs.get("multi_job_id"):
            ids = inputs.get("enabled_worker_ids")
            with suppress(ValueError, TypeError):
                ids = json.loads(ids)
            workers = frozenset(map(str, ids)) if isinstance(ids, list) else frozenset()
            worker = str(inputs.get("worker_id", "")) if inputs.get("is_worker") else ""
            return SharedJob(str(name), workers, worker)
    return None


def runs_on_workers(prompt: dict[str, Any], key: str) -> bool:
    """Whether a node runs on several machines, as ComfyUI-Distributed arranges it.

    That pack sends a worker what lies before its collector, with `is_worker` set there; the master's own
    prompt lists the workers in `enabled_worker_ids`.

    Args:
        prompt: As ComfyUI runs it.
        key: Of the node.
    """
    return key in _upstream(prompt, _shared(prompt))


def _shared(prompt: dict[str, Any]) -> list[str]:
    """The nodes where that pack gathers what several machines make."""
    return [
        key
        for key, node in prompt.items()
        if node["inputs"].get("is_worker") is True
        or node["inputs"].get("enabled_worker_ids") not in (None, "", "[]", [])
    ]
