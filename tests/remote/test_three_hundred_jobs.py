"""Three hundred jobs in two processes that are killed, over a service and a proxy that fail."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wavespeed_worker
from wavespeed_faults import Fault, accepted_but, envelope, late, patch, status
from wavespeed_proxy import HOST, Proxy, make_certificate
from wavespeed_standin import Standin
from wavespeed_testing import KEY

pytestmark = pytest.mark.slow

PROMPTS, SEEDS = 25, 12
JOBS = PROMPTS * SEEDS
KILLS = 20
"""In each of two worlds."""
SHARE = 0.1
HTML = Fault("reply", body=b"<html>Maintenance</html>")
PACKED = Fault("reply", True, headers={"Content-Encoding": "gzip"})
KINDS: dict[str, list[str | Fault]] = {
    "submit": [
        *("reset_before", "reset_after", "hang_after", "cut", "drip", "invalid_json", "no_id"),
        *("408_after", "500", "500_after", "502_after", "503", "504_after", "rate_limit_7s"),
        *(accepted_but(302, Location="/elsewhere"), accepted_but(500), PACKED, late(0.2)),
    ],
    "result": [
        *("reset_before", "hang_before", "cut", "500", "unauthorized", "no_credit", "forbidden"),
        *("not_found", "gone", "rate_limit_7s", "unknown_state", "empty_outputs", HTML, PACKED),
        *(envelope(402), envelope(1407), envelope(404), status(400), status(403), late(0.2)),
        *(patch(status="\x1b[31m" + "x" * 500), patch(id="pred99999999")),
    ],
    "file": [
        "reset_before",
        "hang_before",
        "500",
        "cut",
        "expired_url",
        "wrong_magic",
        "not_found",
    ],
    "upload": ["reset_before", "500", "invalid_json"],
    "list": ["reset_before", "503", "cut", "rate_limit_7s", "invalid_json"],
    "price": ["500", "not_found", HTML],
}


def fail_a_tenth(service: Standin, dice: random.Random) -> None:
    for endpoint, kinds in KINDS.items():
        for _ in range(4 * JOBS):
            service.fail(endpoint, dice.choice(kinds) if dice.random() < SHARE else None)


class World:
    """A service, perhaps behind a proxy, and programs that order from it in one folder."""

    def __init__(
        self, stack: contextlib.ExitStack, folder: Path, dice: random.Random, *, proxied: bool
    ):
        self.service = stack.enter_context(Standin(key=KEY, generation_s=0.05))
        self.service.hang_s = 1.0
        self._folder = folder
        self._url, self._environment = self.service.url, {"NO_PROXY": "127.0.0.1"}
        if proxied:
            proxy = stack.enter_context(Proxy(self.service.url, make_certificate(folder)))
            for _ in range(15):
                proxy.lost.append(("POST /api/v3/wave", dice.choice(["close", "reset"])))
                proxy.lost.append(("GET", "close"))
            self._url = f"https://{HOST}"
            self._environment |= {"HTTPS_PROXY": proxy.url}
            self._environment |= {"REQUESTS_CA_BUNDLE": str(folder / "authority.pem")}

    def start(self) -> subprocess.Popen:
        """One program that wants all the jobs."""
        command = [
            sys.executable,
            wavespeed_worker.__file__,
            self._url,
            str(self._folder / "state"),
        ]
        return subprocess.Popen(
            [*command, "7", str(SEEDS), str(PROMPTS), self.service.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | self._environment,
        )


@pytest.mark.parametrize("world", ["direct", "proxy"])
def test_nothing_is_paid_twice(world: str, tmp_path: Path, record_property):
    """0 paid twice; 295 delivered within three reruns; every paid id delivered or named."""
    dice = random.Random(11)  # noqa: S311
    with contextlib.ExitStack() as stack:
        programs = World(stack, tmp_path, dice, proxied=world == "proxy")
        service = programs.service
        fail_a_tenth(service, dice)
        pair = [programs.start(), programs.start()]
        for kill in range(KILLS):
            time.sleep(1.0 + dice.random())
            pair[kill % 2].kill()
            pair[kill % 2].communicate()
            pair[kill % 2] = programs.start()
        outputs = [process.communicate(timeout=300)[0] for process in pair]
        reruns = 0
        while service.images_delivered < JOBS and reruns < 3:
            reruns += 1
            outputs.append(programs.start().communicate(timeout=300)[0])
        named = " ".join(
            text for output in outputs if output for text in json.loads(output)["failures"]
        )
        record_property(
            "summary",
            f"{JOBS} jobs, {world}: {service.images_delivered} delivered after {reruns} reruns, "
            f"{service.paid_twice} paid twice, {KILLS} kills, {sum(service.requests.values())} requests",
        )
        assert service.paid_twice == 0
        assert service.images_delivered >= JOBS - 5
        lost = [name for name in service.jobs if name not in service.delivered]
        assert [name for name in lost if name not in named] == []
