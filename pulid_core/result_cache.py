"""A bounded memory of results: what was computed once about a photo is not computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Value = TypeVar("Value")

ENCODED_BYTES = 256 * 2**20
"""For photos that were encoded. Each takes 17 MB: 12 for the hidden states of the vision tower, which
another fusion of the same photos needs again, and 5 for pictures."""
FACES_BYTES = 8 * 2**20
"""For faces that were found, about 2 KB each."""
ENTRY_BYTES = 1024
"""What an entry counts besides its tensors, so that small ones are bounded in number, too."""


class ResultCache:
    """Keeps results under keys that name everything they depend on, the latest used ones longest.

    Args:
        max_bytes: Kept in total.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the result kept under the key, or make and keep it.

        A result that raises is not kept, nor is one that is larger than the whole memory.
        """
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        value = make()
        size = byte_count(value) + ENTRY_BYTES
        if size > self.max_bytes:
            return value
        self._entries[key] = (value, size)
        self.held_bytes += size
        while self.held_bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.held_bytes -= freed
        return value


def byte_count(value: object) -> int:
    """Count the bytes of all tensors and arrays in dataclasses, tuples and lists."""
    if isinstance(value, Tensor | np.ndarray):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(byte_count(item) for item in value)
    if is_dataclass(value):
        return sum(byte_count(getattr(value, field.name)) for field in fields(value))
    return 0
