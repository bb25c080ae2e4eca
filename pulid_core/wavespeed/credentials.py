"""The API key: where it is found, how it is sent, and how it stays out of every text."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from requests import PreparedRequest
from requests.auth import AuthBase

from .errors import RemoteAuthError

LOGGER = logging.getLogger(__name__)

KEY_VARIABLE = "WAVESPEED_API_KEY"
KEY_FILE = "api_key"
SMALL_BYTES = 10_000

_LEAST_PRIVATE = 4
_BEARER = re.compile(r"(?i)bearer\s+\S+")
_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")
_PATH = re.compile(r"(?i)(https?://[^\s/?#\"'<>]+)[/?#][^\s\"'<>]+")
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+"
)


class ApiKey(AuthBase):
    """A key that signs requests and shows itself nowhere else.

    As an auth object it takes precedence over ~/.netrc, which a header would not.
    """

    def __init__(self, value: str):
        value = value.strip().strip("\"'").strip()
        value = re.sub(r"(?i)^bearer\s+", "", value).strip()
        if not value or not all("!" <= character <= "~" for character in value):
            raise RemoteAuthError(
                "The WaveSpeed API key is empty or holds spaces, control or non-ASCII characters. "
                "Copy it again from wavespeed.ai/accesskey."
            )
        self._value = value

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        r.headers["Authorization"] = f"Bearer {self._value}"
        return r

    def __repr__(self) -> str:
        return "ApiKey(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("An API key is not pickled.")

    def to_bytes(self) -> bytes:
        """The key, for keyed hashes only."""
        return self._value.encode("ascii")

    def hide(self, text: str) -> str:
        """The text with the key taken out."""
        return text.replace(self._value, "[key]")


def find_key(folder: Path, environ: Mapping[str, str] = os.environ) -> ApiKey:
    """Look up the key in WAVESPEED_API_KEY, then in the file `api_key` in a folder.

    Raises:
        RemoteAuthError: There is none, or it holds characters that no key has.
    """
    if environ.get(KEY_VARIABLE, "").strip():
        return ApiKey(environ[KEY_VARIABLE])
    path = folder / KEY_FILE
    text = small_text(path)
    if "\ufffd" in text:
        raise RemoteAuthError(
            f"The WaveSpeed API key in {path} should be UTF-8 text, but is saved another way. "
            "Save the file again as UTF-8."
        )
    if not text.strip():
        raise RemoteAuthError(
            f"No WaveSpeed API key. Set {KEY_VARIABLE} or put it into {path}. "
            "Do not type it into the workflow."
        )
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        LOGGER.warning("Other users can read the WaveSpeed API key; run: chmod 600 %s", path)
    return ApiKey(text)


def small_text(path: Path) -> str:
    """The text of a file, which Notepad may begin with a mark; empty where there is none.

    What is no file, or is large, is not read: it may never end.
    """
    try:
        is_small = path.is_file() and path.stat().st_size <= SMALL_BYTES
        return path.read_text("utf-8-sig", errors="replace") if is_small else ""
    except OSError:
        return ""


def without_query(url: str) -> str:
    """A URL without the part that may be a signature."""
    return url.split("?", 1)[0].split("#", 1)[0]


def clean_message(text: str, length: int = 300, *, is_address: bool = False) -> str:
    """A foreign text on one line without control characters, tokens and URL signatures, cut.

    Whoever knows where the photo lies can see it, so that only an address that is asked for is
    left whole; others end after their host.
    """
    text = _CONTROL.sub(" ", text[: 20 * length])
    text = _BEARER.sub("Bearer [hidden]", text)
    text = _QUERY.sub(r"\1", text) if is_address else _PATH.sub(r"\1/…", text)
    return " ".join(text.split())[:length]


def hide_prompts(text: str, prompts: Sequence[str]) -> str:
    """A foreign text without what the user wrote; words as short as one of a date stay."""
    for prompt in sorted(prompts, key=len, reverse=True):
        if len(prompt.strip()) >= _LEAST_PRIVATE:
            text = re.sub(rf"(?<!\w){re.escape(prompt.strip())}(?!\w)", "[prompt]", text)
    return text
