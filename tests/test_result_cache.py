"""A bounded memory."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pulid_pack.pulid_core.result_cache import ENTRY_BYTES, ResultCache, byte_count
from pulid_pack.tests.people import make_identity


def test_makes_a_result_once():
    recall, made = ResultCache(10**6), []
    for _ in range(3):
        assert recall.get("a", lambda: made.append("a") or 5) == 5
    assert made == ["a"]


def test_forgets_what_was_not_used_for_longest():
    recall = ResultCache(3 * (ENTRY_BYTES + 4000))
    for key in "abc":
        recall.get(key, lambda: torch.zeros(1000))
    recall.get("a", lambda: pytest.fail("a is there"))
    recall.get("d", lambda: torch.zeros(1000))
    recall.get("a", lambda: pytest.fail("a is there"))
    made = []
    recall.get("b", lambda: made.append("b"))
    assert made == ["b"]


def test_an_error_is_not_kept():
    recall = ResultCache(10**6)
    with pytest.raises(ZeroDivisionError):
        recall.get("a", lambda: 1 / 0)
    assert recall.get("a", lambda: 7) == 7


def test_what_is_larger_than_the_memory_leaves_the_others():
    recall = ResultCache(2 * ENTRY_BYTES)
    recall.get("small", lambda: None)
    assert len(recall.get("large", lambda: torch.zeros(2 * ENTRY_BYTES))) == 2 * ENTRY_BYTES
    recall.get("small", lambda: pytest.fail("small is there"))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
def test_never_holds_more_than_its_bound(requests):
    """Nor more small entries than fit; a result larger than the bound is handed out all the same."""
    recall = ResultCache(5000)
    for key, size in requests:
        assert recall.get((key, size), lambda size=size: np.zeros(size, np.uint8)).nbytes == size
        assert recall.held_bytes <= 5000
        assert recall.held_bytes == sum(size for _, size in recall._entries.values())


def test_counts_tensors_inside():
    identity = make_identity()
    tensors = (identity.tokens, identity.uncond_tokens, identity.arcface_embeddings, identity.crops)
    assert byte_count([identity, None, "text"]) == sum(tensor.nbytes for tensor in tensors)
