"""Two hundred jobs with every kind of fault: none paid twice, none lost, memory flat."""

from __future__ import annotations

import contextlib
import random
import resource
from pathlib import Path

from pulid_pack.pulid_core.wavespeed import Pacer, WavespeedClient
from pulid_pack.pulid_core.wavespeed.errors import RemoteBatchFailed
from wavespeed_standin import Standin
from wavespeed_testing import KEY, client_for, fast_clock, request

JOBS = 200
RATE = 6
SHARE = 0.05
SUBMIT = ["reset_before", "reset_after", "500", "500_after", "invalid_json", "cut", "rate_limit_7s"]
RESULT = ["reset_before", "500", "rate_limit_7s", "invalid_json", "cut", "unknown_state"]
FILE = ["reset_before", "500", "cut", "expired_url", "wrong_magic"]


def fail_some(service: Standin, dice: random.Random) -> None:
    """Five per cent of each kind, spread over the coming requests."""
    for endpoint, kinds in (("submit", SUBMIT), ("result", RESULT), ("file", FILE)):
        faults = [kind for kind in kinds for _ in range(int(JOBS * SHARE))]
        faults += [None] * (JOBS - len(faults))
        dice.shuffle(faults)
        for fault in faults:
            service.fail(endpoint, fault)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_all(client: WavespeedClient, batches: list[int]) -> None:
    """Every batch once."""
    for seed in batches:
        with contextlib.suppress(RemoteBatchFailed):
            client.run(
                request(
                    seed=seed,
                    num_images=10,
                    max_parallel=10,
                    width=256,
                    height=256,
                    max_cost_usd=1,
                    max_wait_s=3600,
                )
            )


def test_two_hundred_jobs(tmp_path: Path):
    """Faults in every tenth request or more: after at most three runs everything is delivered."""
    clock = fast_clock(200)
    with Standin(key=KEY) as service:
        client = client_for(service.url, tmp_path, clock, pacer=Pacer(1000, clock))
        fail_some(service, random.Random(3))  # noqa: S311
        seeds = [index * 10 for index in range(JOBS // 10)]
        run_all(client, seeds[:4])
        run_all(client, seeds[4:8])
        early = peak_bytes()
        run_all(client, seeds[8:])
        late = peak_bytes()
        service._faults.clear()
        for _ in range(2):
            run_all(client, seeds)
        assert service.paid_twice == 0
        assert service.paid == service.images_delivered == JOBS
        # 120 pictures of 786 kB went through meanwhile.
        assert late - early < 30_000_000


def test_makespan_is_what_the_pacing_allows(tmp_path: Path):
    """12 jobs at 6 a minute, after a full window: within ten per cent of two minutes."""
    clock = fast_clock(10)
    with Standin(key=KEY) as service:
        pacer = Pacer(RATE, clock)
        client = client_for(service.url, tmp_path, clock, pacer=pacer)
        client.run(request(seed=999_999))
        for _ in range(RATE - 1):
            pacer.wait_turn(lambda: False)
        started = clock.monotonic()
        client.run(request(num_images=12, max_parallel=12))
        assert clock.monotonic() - started <= 120 * 1.1
        assert service.paid == service.images_delivered == 13
