"""ComfyUI-Distributed: what a worker lacks, or fails at, is told on the master, where the user looks.

What a worker's ComfyUI refuses at queue time that pack hands to the user's window itself, but it does not
say which worker. What fails later it leaves in the worker's history, and goes on without its pictures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from comfy.cli_args import args
from server import PromptServer

from ..pulid_core.errors import PulidError
from ..pulid_core.prompt_branches import is_prompt, runs_on_workers, shared_job

LOGGER = logging.getLogger(__name__)
FAILED = "pulid.worker_failed"
OURS = ("Pulid", "Wavespeed")
LOOK_S = 2.0
"""How often a worker is asked whether it is through."""
MOST_SILENT = 15
"""Looks in a row without an answer, as while a model is loaded, until a worker is given up."""
TIMEOUT = aiohttp.ClientTimeout(total=20)
MAX_ANSWER_BYTES = 2**26
MAX_TEXT = 2000
LATEST = 16
"""So many of a worker's last prompts are looked through."""

_worker: ContextVar[str] = ContextVar("pulid_worker", default="")
_following: set[asyncio.Task[None]] = set()  # a task that nobody holds may vanish in the middle


def attend(request: dict[str, Any]) -> dict[str, Any]:
    """Hear of a prompt: on a worker remember who this is, on the master follow the workers.

    Args:
        request: The body of POST /prompt; not changed.
    """
    prompt = request.get("prompt")
    job = shared_job(prompt) if is_prompt(prompt) else None
    _worker.set(job.worker if job else "")  # for the validation, which comes next
    if is_prompt(prompt) and job and not job.worker and _has_ours(prompt):
        task = asyncio.get_running_loop().create_task(_follow_all(job.name, job.workers))
        _following.add(task)
        task.add_done_callback(_forget)
    return request


@contextmanager
def naming_worker() -> Iterator[None]:
    """Let an error say which worker it comes from; elsewhere it stays as it is.

    Raises:
        PulidError: What was raised, with the worker's id and the computer's name.
    """
    try:
        yield
    except PulidError as error:
        if worker := _worker.get():
            raise PulidError(f"Worker {worker} on {platform.node()}: {error}") from error
        raise


def _has_ours(prompt: dict[str, Any]) -> bool:
    """Whether a node of this pack runs on the workers; what fails in others' graphs they tell."""
    return any(
        str(node.get("class_type")).startswith(OURS) and runs_on_workers(prompt, key)
        for key, node in prompt.items()
    )


def _forget(task: asyncio.Task[None]) -> None:
    _following.discard(task)
    if not task.cancelled() and (error := task.exception()):  # a worker answers as it likes
        LOGGER.warning("How ComfyUI-Distributed's workers fared is not known: %r", error)


async def _follow_all(job: str, ids: frozenset[str]) -> None:
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        known = await _answer(session, f"{_own_url()}/distributed/config")
        workers = [one for one in known.get("workers", ()) if str(one["id"]) in ids]
        await asyncio.gather(*[_follow(session, worker, job) for worker in workers])


async def _follow(session: aiohttp.ClientSession, worker: dict[str, Any], job: str) -> None:
    """Wait until a worker is through with a job, and tell why it failed."""
    url, silent = _url_of(worker), 0
    while silent < MOST_SILENT:
        queue = await _answer(session, f"{url}/queue")
        if queue and not any(_is_part(item[2], job) for items in queue.values() for item in items):
            break
        silent = 0 if queue else silent + 1
        await asyncio.sleep(LOOK_S)
    history = await _answer(session, f"{url}/history?max_items={LATEST}")
    for entry in history.values():
        if _is_part(entry["prompt"][2], job):
            told = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
            for error in told:
                text = f"{error['node_type']}: {error['exception_message'].strip()}"[:MAX_TEXT]
                name = worker.get("name") or worker["id"]
                LOGGER.error("Worker %s gave no picture. %s", name, text)
                PromptServer.instance.send_sync(FAILED, {"worker": name, "text": text})


def _is_part(prompt: Any, job: str) -> bool:
    found = shared_job(prompt) if is_prompt(prompt) else None
    return found is not None and found.name == job


async def _answer(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Ask a ComfyUI; nothing when it does not answer, which that pack's own panel shows."""
    try:
        # Certificates of one's own are the rule between one's own machines.
        async with session.get(url, ssl=False, allow_redirects=False) as answer:
            data = b""
            async for part in answer.content.iter_chunked(2**16):
                data += part
                if len(data) > MAX_ANSWER_BYTES:
                    return {}
            found = json.loads(data) if answer.ok else {}
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError, aiohttp.ClientError, asyncio.TimeoutError) as error:
        LOGGER.info("%s does not answer: %s", url, error)
        return {}


def _own_url() -> str:
    server = PromptServer.instance
    host = server.address if server.address.strip("0.:") else "127.0.0.1"  # of any address, one
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if args.tls_keyfile else 'http'}://{host}:{server.port}"


def _url_of(worker: dict[str, Any]) -> str:
    """Where a worker is, as that pack reads its own list."""
    host, port = worker.get("host") or "127.0.0.1", int(worker.get("port") or 8188)
    if "://" in host:
        return host.rstrip("/")
    is_cloud = worker.get("type") == "cloud" or port == 443
    return f"{'https' if is_cloud else 'http'}://{host}:{port}"
