"""Values that come through links: ComfyUI checks those of widgets only."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

from comfy_api.latest import io

from ..pulid_core.errors import PulidError

CHECKED = (io.Float.Input, io.Int.Input, io.String.Input, io.Combo.Input, io.Boolean.Input)
ABSURD = 1e6
"""Beyond it lies no number that an input without limits of its own is meant for."""


def require_values(node: type[io.ComfyNode], names: Collection[str] = (), **values: Any) -> None:
    """Hold a node's values against the inputs of its schema, before anything else is done.

    Args:
        node: Whose schema it is.
        names: Ids of choices for which any text will do: whether there is what it names is asked later.
        values: Input id -> value, of inputs that are numbers, texts, choices or switches; others are
            ignored. An optional one may be None, as one whose node gave nothing is.

    Raises:
        PulidError: One is not finite, out of its range, no choice, or of another type.
    """
    schema = node.define_schema()  # GET_SCHEMA writes to the class, which is locked while it runs
    for field in schema.inputs:
        value, is_name = values.get(field.id), field.id in names
        given = (value or [None]) if schema.is_input_list else [value]
        if field.id in values and not all(_fits(field, one, is_name) for one in given):
            wanted = "a name" if is_name else _wanted(field)
            raise PulidError(
                f"The input {field.id} of {schema.node_id} should be {wanted}, but a link gave "
                f"{str(value)[:80]!r}. Look at the node that is connected to it."
            )


def _fits(field: Any, value: Any, is_name: bool) -> bool:
    if not isinstance(field, CHECKED):
        return True
    if value is None:
        return field.optional
    if isinstance(field, io.Combo.Input):
        return isinstance(value, str) and (is_name or value in field.options)
    if isinstance(field, io.String.Input):
        return isinstance(value, str)
    if isinstance(field, io.Boolean.Input):
        return isinstance(value, bool)
    low, high = _limits(field)
    kind: Any = Real if isinstance(field, io.Float.Input) else Integral
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def _limits(field: Any) -> tuple[float, float]:
    low = -ABSURD if field.min is None else field.min
    return low, ABSURD if field.max is None else field.max


def _wanted(field: Any) -> str:
    if isinstance(field, io.Combo.Input):
        return f"one of {', '.join(map(str, field.options))}"
    if isinstance(field, io.String.Input):
        return "a text"
    if isinstance(field, io.Boolean.Input):
        return "true or false"
    kind = "a number" if isinstance(field, io.Float.Input) else "a whole number"
    return "{} from {:.10g} to {:.10g}".format(kind, *_limits(field))
