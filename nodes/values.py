"""Values that come through links: ComfyUI checks those of widgets only."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from comfy_api.latest import io

from ..pulid_core.errors import PulidError


def require_values(node: type[io.ComfyNode], **values: Any) -> None:
    """Hold a node's values against the inputs of its schema.

    Args:
        node: Whose schema it is.
        values: Input id -> value, of inputs that are numbers, texts or choices; others are ignored.

    Raises:
        PulidError: One is not finite, out of its range, no choice, or of another type.
    """
    schema = node.define_schema()  # GET_SCHEMA writes to the class, which is locked while it runs
    for field in schema.inputs:
        if field.id in values and not _fits(field, values[field.id]):
            raise PulidError(
                f"The input {field.id} of {schema.node_id} should be {_wanted(field)}, but a link gave "
                f"{str(values[field.id])[:80]!r}. Look at the node that is connected to it."
            )


def _fits(field: Any, value: Any) -> bool:
    if isinstance(field, io.Combo.Input):
        return value in field.options
    if isinstance(field, io.String.Input):
        return isinstance(value, str)
    if not isinstance(field, io.Float.Input | io.Int.Input):
        return True
    kind = Real if isinstance(field, io.Float.Input) else Integral
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and field.min <= value <= field.max


def _wanted(field: Any) -> str:
    if isinstance(field, io.Combo.Input):
        return f"one of {', '.join(map(str, field.options))}"
    if isinstance(field, io.String.Input):
        return "a text"
    kind = "a number" if isinstance(field, io.Float.Input) else "a whole number"
    return f"{kind} from {field.min:g} to {field.max:g}"
