"""Runs one request against a stand-in in a process of its own, for tests that kill it.

python wavespeed_worker.py URL STATE_DIR SEED NUM_IMAGES
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import registration
from wavespeed_testing import client_for, request


def main() -> None:
    url, state_dir, seed, num_images = sys.argv[1:]
    assert registration.pack
    client = client_for(url, Path(state_dir))
    batch = client.run(request(seed=int(seed), num_images=int(num_images), max_parallel=4))
    report = {"ids": batch.prediction_ids, "sources": [m["source"] for m in batch.metadata]}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
