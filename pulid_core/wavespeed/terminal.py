"""Progress on a terminal, or in a log."""

from __future__ import annotations

import sys

from ..paid_jobs.crew import Progress


class TerminalProgress:
    """Shows the progress on one line of a terminal, and as one line per change elsewhere."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, progress: Progress) -> None:
        """Show how far a run is."""
        if sys.stderr.isatty():
            end = "\n" if progress.done == progress.total else ""
            sys.stderr.write(f"\r\033[K{progress.line}{end}")
        elif progress.text != self._shown:
            sys.stderr.write(f"{progress.text}\n")
        self._shown = progress.text
        sys.stderr.flush()


terminal_progress = TerminalProgress()
