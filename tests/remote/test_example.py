"""The ten-line example, word for word, against the stand-in."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image
from pulid_pack.pulid_core import wavespeed
from wavespeed_standin import Standin
from wavespeed_testing import KEY

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text("utf-8"), re.DOTALL)
EXAMPLES = {
    "docstring": (wavespeed.__doc__ or "").split("\n\n", 1)[1].rsplit("\n\n", 1)[0],
    **{f"python.md {i}": code for i, code in enumerate(BLOCKS) if "pulid_core.wavespeed" in code},
}
TO_STANDIN = """
    import functools, sys
    from pulid_core import wavespeed
    url = sys.argv[1]
    wavespeed.WavespeedClient = functools.partial(
        wavespeed.WavespeedClient,
        transport=wavespeed.Transport(wavespeed.AddressPolicy(frozenset({url}))),
        base_url=url,
    )
    exec(sys.stdin.read())
"""


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path):
    """In a directory with a photo it saves a picture, and shows its progress on the terminal."""
    Image.new("RGB", (80, 96), "red").save(tmp_path / "face.jpg")
    assert len(EXAMPLES[name].strip().splitlines()) <= 10
    with Standin(key=KEY) as service:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(TO_STANDIN), service.url],
            input=EXAMPLES[name],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "WAVESPEED_API_KEY": KEY},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        (path,) = [*tmp_path.glob("portraits/*.png"), *tmp_path.glob("portrait.png")]
        with Image.open(path) as picture:
            assert picture.size == (1024, 1024)
        assert "1/1" in ended.stderr
        assert KEY not in ended.stderr
        assert (service.paid, service.images_delivered) == (1, 1)
