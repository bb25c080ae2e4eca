"""A ComfyUI without nodes: it takes prompts, counts, and paints when it was asked often enough."""

import io
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "any.png"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "any", "clip": ["9", 0]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 0, "positive": ["2", 0]}},
}


class FakeComfyUI:
    """Serves inside the `with` block.

    Args:
        looks: How often the queue is looked at until a prompt is done.
        fails: Whether a prompt's text makes its run fail.
    """

    def __init__(self, looks=1, fails=lambda text: False):
        self.looks, self.fails = looks, fails
        self.refusal, self.refused = None, 0
        self.is_empty = False
        self.status = 200
        self.files, self.left, self.history = {}, {}, {}
        self.painted, self.queued, self.failures = [], Counter(), Counter()
        handler = type("Handler", (Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.die()

    def die(self):
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()

    def cuts_off(self, path):
        """Whether it dies in the middle of an answer; by default never."""
        return False

    def forget(self):
        """What a restart forgets."""
        self.left, self.history = {}, {}

    def take(self, body):
        number = body["prompt_id"]
        if self.refusal:
            self.refused += 1
            return 400, self.refusal
        self.left[number] = (self.looks, body["prompt"])
        self.queued[number] += 1
        return 200, {"prompt_id": number, "node_errors": {}}

    def look(self):
        for number, (looks, prompt) in list(self.left.items()):
            self.left[number] = (looks - 1, prompt)
            if looks <= 0:
                del self.left[number]
                self.history[number] = self.run(prompt)
        return {"queue_running": [[0, number] for number in self.left], "queue_pending": []}

    def run(self, prompt):
        text, seed = prompt["2"]["inputs"]["text"], prompt["3"]["inputs"]["seed"]
        assert prompt["1"]["inputs"]["image"] in self.files
        if self.fails(text):
            self.failures[text] += 1
            message = ["execution_error", {"node_type": "KSampler", "exception_message": "no room"}]
            return {"outputs": {}, "status": {"status_str": "error", "messages": [message]}}
        self.painted.append((prompt["1"]["inputs"]["image"], text, seed))
        shown = [
            {"filename": "p.png", "subfolder": "", "type": kind} for kind in ("temp", "output")
        ]
        status = {"status_str": "success", "messages": []}
        return {"outputs": {"8": {"images": shown}}, "status": status}


class Handler(BaseHTTPRequestHandler):
    """ComfyUI's routes, as far as they are used."""

    fake: FakeComfyUI

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.startswith("/history/"):
            number = path.rpartition("/")[2]
            entry = self.fake.history.get(number)
            self.answer({number: entry} if entry else {})
        elif path == "/system_stats":
            self.answer({"devices": [{"vram_total": 2**34, "vram_free": 2**33}]})
        elif path == "/queue":
            self.answer(self.fake.look())
        elif path == "/view" and "type=output" in query and not self.fake.is_empty:
            file = io.BytesIO()
            Image.new("RGB", (40, 40), "teal").save(file, "PNG")
            self.answer(file.getvalue())
        else:
            self.answer({}, 404)

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            name = data.split(b'filename="')[1].split(b'"')[0].decode()
            self.fake.files[name] = data
            self.answer({"name": name})
        elif self.path == "/prompt":
            status, answer = self.fake.take(json.loads(data))
            self.answer(answer, status)
        elif self.path == "/history":
            for number in json.loads(data)["delete"]:
                self.fake.history.pop(number, None)
            self.answer(b"")

    def answer(self, content, status=200):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status if self.fake.status == 200 else self.fake.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if not self.fake.cuts_off(self.path) else data[: len(data) // 2])

    def log_message(self, *_):
        pass
