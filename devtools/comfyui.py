"""A real ComfyUI server as a context manager, driven over HTTP and its websocket."""

import asyncio
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import requests
import torch

ROOT = Path(__file__).resolve().parent.parent
PACK_NAME = "pulid-for-flux"
START_TIMEOUT_S = 180
# What belongs to a working copy and not to the pack that a user installs.
NOT_PACK = (".*", "__pycache__", "tests", "devtools", "demo-*", "node_modules")
MODEL_FOLDERS = (
    *("diffusion_models", "unet", "text_encoders", "clip", "vae", "clip_vision", "loras"),
    *("pulid", "facexlib", "insightface", "checkpoints", "controlnet", "vae_approx"),
)
PROGRESS_TEXT = 3  # ComfyUI's BinaryEventTypes.TEXT
FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")

Event = Callable[[str, dict], object]


class ServerError(Exception):
    """ComfyUI did not start, died, or does not answer; the text ends with its log."""


def inputs_of(info: dict[str, Any]) -> dict[str, list]:
    """All inputs that /object_info lists for a node, in order."""
    return info["input"].get("required", {}) | info["input"].get("optional", {})


@dataclass(frozen=True)
class Failure:
    """Why a prompt did not end well."""

    message: str
    exception_type: str = ""
    node_id: str | None = None
    node_type: str | None = None


@dataclass
class Run:
    """What one prompt did."""

    prompt_id: str = ""
    outputs: dict[str, dict] = field(default_factory=dict)
    """What each output node shows, by node id."""
    images: dict[str, list[Path]] = field(default_factory=dict)
    """The picture files among the outputs, by node id."""
    executed_nodes: list[str] = field(default_factory=list)
    cached_nodes: list[str] = field(default_factory=list)
    error: Failure | None = None
    node_errors: dict[str, dict] = field(default_factory=dict)
    """Why validation refused the prompt, by node id; nothing ran then."""
    seconds: float = 0.0
    heard: list[str | bytes] = field(default_factory=list, repr=False)
    """Every websocket message during the run, as it came."""


class ComfyServer:
    """A headless ComfyUI with its own base folder, alive inside the `with` block.

    Args:
        comfyui: Folder with `main.py`.
        base_dir: Gets custom_nodes, input, output, temp and user; made when missing.
        models_dir: A folder laid out as ComfyUI's `models`.
        packs: Custom node packs, copied into custom_nodes; the folder's name, or this pack's own.
        cpu: Whether to keep off the accelerator; by default only when there is none.
        python: The interpreter that has ComfyUI's requirements.
        options: More command line options.
        environment: More environment variables, in front of this process's own.
    """

    def __init__(
        self,
        comfyui: Path,
        base_dir: Path,
        models_dir: Path,
        *,
        packs: Sequence[Path] = (ROOT,),
        cpu: bool | None = None,
        python: str = sys.executable,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ):
        self.comfyui = comfyui
        self.base_dir = base_dir
        self.log_path = base_dir / "comfyui.log"
        self._models_dir = models_dir
        self._packs = packs
        self._cpu = not torch.accelerator.is_available() if cpu is None else cpu
        self._python = python
        self._options = options
        self._environment = environment or {}
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "ComfyServer":
        self._prepare_base()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.comfyui,
                # On busy processors, threads that spin while they wait make every step far slower.
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and every process it started."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            member.terminate()
        for member in psutil.wait_procs(family, timeout=10)[1]:
            member.kill()
        process.wait()

    def kill(self) -> None:
        """End the server at once, as a crash does; it writes and answers nothing more."""
        self._process.kill()
        self._process.wait()

    def press_ctrl_c(self, timeout_s: float) -> None:
        """End the server as a user does in its terminal.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout_s)

    def object_info(self, node_id: str = "") -> dict[str, dict]:
        """Describe one node type, or all; empty when there is no such type."""
        return self._get(f"object_info/{node_id}" if node_id else "object_info")

    def upload_image(self, path: Path) -> str:
        """Put a picture into the input folder and return the name that LoadImage takes."""
        with path.open("rb") as picture:
            answer = self._post("upload/image", files={"image": (path.name, picture)})
        return answer.json()["name"]

    def run(self, prompt: dict, timeout_s: float = 600, on_event: Event | None = None) -> Run:
        """Queue a prompt in API format and wait for its end.

        Args:
            prompt: Nodes by id.
            timeout_s: Limit for the whole run.
            on_event: Called with the kind and data of each websocket message of this prompt, and
                with "progress_text" for the line that a node shows.

        Raises:
            ServerError: The server died or the time is up. A node that fails does not raise: see
                `Run.error`.
        """
        begin = time.monotonic()
        run = Run()
        try:
            asyncio.run(asyncio.wait_for(self._follow(prompt, run, on_event), timeout_s))
        except asyncio.TimeoutError:
            self.interrupt()
            raise ServerError(f"No end after {timeout_s} s.\n{self._log_tail()}") from None
        except (aiohttp.ClientError, requests.RequestException) as error:
            raise ServerError(f"ComfyUI does not answer: {error}\n{self._log_tail()}") from error
        run.seconds = time.monotonic() - begin
        return run

    def interrupt(self) -> None:
        """Stop the prompt that runs; from another thread, since `run` waits."""
        self._post("interrupt", json={})

    def free(self) -> None:
        """Unload all models and drop cached results before the next prompt."""
        self._post("free", json={"unload_models": True, "free_memory": True})

    def log_text(self) -> str:
        """All that ComfyUI wrote so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def _prepare_base(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base_dir / name).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.base_dir / "custom_nodes")
        for pack in self._packs:
            name = PACK_NAME if pack == ROOT else pack.name
            copy = self.base_dir / "custom_nodes" / name
            shutil.copytree(pack, copy, ignore=shutil.ignore_patterns(*NOT_PACK))
        (self.base_dir / "custom_nodes").mkdir(exist_ok=True)
        lines = ["stage:", f"  base_path: {json.dumps(str(self._models_dir.resolve()))}"]
        lines += [f"  {name}: {name}" for name in MODEL_FOLDERS]
        (self.base_dir / "model_paths.yaml").write_text("\n".join(lines), encoding="utf-8")

    def _command(self) -> list[str]:
        return [
            *(self._python, "main.py", *(["--cpu"] if self._cpu else [])),
            *("--base-directory", str(self.base_dir.resolve())),
            *("--extra-model-paths-config", str(self.base_dir.resolve() / "model_paths.yaml")),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            *("--database-url", "sqlite:///:memory:"),
            *("--disable-api-nodes", "--disable-auto-launch"),
            *self._options,
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"ComfyUI ended while starting.\n{self._log_tail()}")
            try:
                self._get("system_stats")
            except requests.ConnectionError:
                time.sleep(0.2)
            else:
                return
        raise ServerError(f"ComfyUI is not up after {START_TIMEOUT_S} s.\n{self._log_tail()}")

    async def _follow(self, prompt: dict, run: Run, on_event: Event | None) -> None:
        client_id = uuid.uuid4().hex
        url = f"{self.url}/ws?clientId={client_id}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0) as ws,
        ):
            if not self._queue(prompt, client_id, run):
                return
            async for message in ws:
                run.heard.append(message.data)
                if message.type != aiohttp.WSMsgType.TEXT:
                    hear_text(message.data, on_event)
                    continue
                event = message.json()
                kind, data = event["type"], event.get("data", {})
                if data.get("prompt_id") != run.prompt_id:
                    continue
                if on_event:
                    on_event(kind, data)
                take_event(run, kind, data)
                if kind in FINAL_EVENTS:
                    self._take_outputs(run)
                    return
        raise ServerError(f"ComfyUI closed the connection.\n{self._log_tail()}")

    def _queue(self, prompt: dict, client_id: str, run: Run) -> bool:
        body = {"prompt": prompt, "client_id": client_id}
        answer = requests.post(f"{self.url}/prompt", json=body, timeout=60)
        result = answer.json()
        run.node_errors = result.get("node_errors") or {}
        if answer.ok:
            run.prompt_id = result["prompt_id"]
            return True
        error = result["error"]
        run.error = Failure(f"{error['message']} {error.get('details', '')}".strip(), error["type"])
        return False

    def _take_outputs(self, run: Run) -> None:
        history = self._history(run.prompt_id)
        run.outputs = history.get("outputs", {})
        run.images = {
            node: [self._picture(entry) for entry in shown["images"]]
            for node, shown in run.outputs.items()
            if shown.get("images")
        }

    def _history(self, prompt_id: str) -> dict[str, Any]:
        # The last event is sent a moment before the history has the prompt.
        for _ in range(100):
            if entry := self._get(f"history/{prompt_id}").get(prompt_id):
                return entry
            time.sleep(0.05)
        return {}

    def _picture(self, entry: dict[str, str]) -> Path:
        return self.base_dir / entry["type"] / entry["subfolder"] / entry["filename"]

    def _get(self, path: str) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _post(self, path: str, **content: Any) -> requests.Response:
        answer = requests.post(f"{self.url}/{path}", timeout=60, **content)
        answer.raise_for_status()
        return answer

    def _log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-40:])


def hear_text(data: bytes, on_event: Event | None) -> None:
    """Hand on a node's progress text; the other binary messages are pictures of the latent."""
    kind, length = struct.unpack_from(">II", data)
    if kind == PROGRESS_TEXT and on_event:
        node, text = data[8 : 8 + length].decode(), data[8 + length :].decode()
        on_event("progress_text", {"node": node, "text": text})


def take_event(run: Run, kind: str, data: dict) -> None:
    """Note in `run` what one websocket message tells."""
    if kind == "execution_cached":
        run.cached_nodes += data["nodes"]
    elif kind == "executing" and data["node"] and data["node"] not in run.executed_nodes:
        run.executed_nodes.append(data["node"])
    elif kind == "execution_error":
        run.error = Failure(
            data["exception_message"].strip(),
            data["exception_type"],
            data["node_id"],
            data["node_type"],
        )
    elif kind == "execution_interrupted":
        run.error = Failure("interrupted", "", data["node_id"], data["node_type"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
