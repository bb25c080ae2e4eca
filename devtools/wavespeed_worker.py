"""Runs one request against a stand-in in a process of its own, for tests that kill it.

python wavespeed_worker.py URL STATE_DIR SEED NUM_IMAGES [PROMPTS [TRUSTED_URL]]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import registration
from wavespeed_testing import client_for, request, short_limits, trusting


def main() -> None:
    url, state_dir, seed, num_images = sys.argv[1:5]
    prompts = [f"prompt {number}" for number in range(int((sys.argv[5:] or ["1"])[0]))]
    assert registration.pack
    # The clock of a transport in this process cannot be told that a server is slow.
    transport = trusting((sys.argv[6:] or [url])[0], time.monotonic)
    client = client_for(url, Path(state_dir), transport=transport, limits=short_limits())
    batch = client.run(
        request(
            seed=int(seed),
            num_images=int(num_images),
            prompts=prompts,
            max_parallel=4 if len(prompts) == 1 else 12,
            max_cost_usd=99,
            width=256,
            height=256,
            on_partial_failure="raise" if len(prompts) == 1 else "keep_successful",
        )
    )
    report = {
        "ids": batch.prediction_ids,
        "sources": [m["source"] for m in batch.metadata],
        "failures": batch.failures,
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
