"""The Chromium that the browser tests drive: found on this machine, or installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


def find() -> Path | None:
    """The browser named by the environment variable CHROMIUM, or one in its usual place."""
    if own := os.environ.get("CHROMIUM"):
        return Path(own) if Path(own).is_file() else None
    candidates = [*filter(None, map(shutil.which, NAMES)), *PLACES, playwrights_own()]
    return next((Path(path) for path in candidates if Path(path).is_file()), None)


def playwrights_own() -> str:
    """Where `playwright install chromium` puts its browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def install() -> None:
    """Try Debian's package as root, else the browser that Playwright brings."""
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        commands = [[*apt, "update"], [*apt, "install", "--yes", "chromium"]]
    for command in commands:
        # What is installed is shown; the answer to whoever started this is standard output alone.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=quiet)


if __name__ == "__main__":
    if find() is None:
        install()
    sys.stdout.write(str(find() or ""))
