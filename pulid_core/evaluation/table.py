"""The figures of many pictures as one Markdown table, a row for each group of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

MIB = 2**20
GROUPS_TOGETHER = "all"


def table(facts: Mapping[str, Sequence[Mapping[str, Any]]], judges: Iterable[str]) -> str:
    """Draw the table.

    Args:
        facts: Of each group's pictures, as the record has them.
        judges: Their names.
    """
    judges = list(judges)
    columns = ["prompts", "pictures", "no face"]
    for judge in judges:
        columns += [f"{judge}: reference", "its lowest tenth", "held-out", "copy-paste"]
    columns += ["pose change", "seconds", "memory"]
    together = {**facts, GROUPS_TOGETHER: [one for group in facts.values() for one in group]}
    rows = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    rows += [_row(name, group, judges) for name, group in together.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(name: str, facts: Sequence[Mapping[str, Any]], judges: Sequence[str]) -> list[str]:
    faces = [one for one in facts if one.get("face")]
    row = [name, str(len(facts)), _percent(len(facts) - len(faces), len(facts))]
    for judge in judges:
        cosines = [one[judge]["reference"] for one in faces]
        lowest = f"{np.percentile(cosines, 10):.3f}" if cosines else ""
        row += [_mean(cosines), lowest]
        row += [
            _mean([one[judge][kind] for one in faces if kind in one[judge]])
            for kind in ("held_out", "copy_paste")
        ]
    seconds = [one["seconds"] for one in facts if one.get("seconds") is not None]
    memory = [one["memory_bytes"] for one in facts if one.get("memory_bytes") is not None]
    row += [_mean([one["pose"] for one in faces], "{:.1f}°")]
    row += [f"{np.median(seconds):.1f}" if seconds else ""]
    return [*row, f"{max(memory) / MIB:.0f} MiB" if memory else ""]


def _mean(values: Sequence[float], form: str = "{:.3f}") -> str:
    return form.format(np.mean(values)) if values else ""


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
