"""Fixtures: the stand-in, and a client that trusts it. Nothing here, and no test, needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import registration
from pulid_pack.pulid_core.wavespeed import WavespeedClient
from wavespeed_standin import Standin
from wavespeed_testing import KEY, WIRE, client_for

assert registration.pack  # these tests also run alone, under every Python
Standin.on_wait = staticmethod(WIRE.hurry)


@pytest.fixture
def service() -> Iterator[Standin]:
    with Standin(key=KEY) as standin:
        yield standin


@pytest.fixture
def client(service: Standin, tmp_path: Path) -> WavespeedClient:
    return client_for(service.url, tmp_path / "state")
