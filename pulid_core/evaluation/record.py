"""What is known of each picture: a line of JSON each time something is learned, so that runs go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_RECORD_BYTES = 2**28


class Record:
    """Facts by the name of a picture; the newest of each kind counts.

    Args:
        path: The file; made when something is noted.
    """

    def __init__(self, path: Path):
        self._path = path
        self.facts: dict[str, dict[str, Any]] = {}
        if path.exists():
            with path.open("rb") as file:
                for line in file.read(MAX_RECORD_BYTES).splitlines():
                    self._take(line)

    def note(self, picture: str, **facts: Any) -> None:
        """Add facts about a picture."""
        line = json.dumps({"picture": picture, **facts}).encode()
        with self._path.open("ab") as file:
            file.write(b"\n" + line)  # a line that was cut before ends here
        self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            facts = json.loads(line)
            self.facts.setdefault(facts.pop("picture"), {}).update(facts)
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # a line that was cut when the program died
