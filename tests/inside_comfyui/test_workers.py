"""ComfyUI-Distributed's prompts, as its master and its workers get them, and a worker that only answers."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pulid_pack.nodes import workers
from pulid_pack.nodes.identity_files import PulidLoadIdentity
from pulid_pack.nodes.loader import PulidLoader
from pulid_pack.nodes.model_files import register_folders
from pulid_pack.pulid_core.errors import PulidError

JOB = "exec_1_collect"
ERROR = {"node_type": "PulidLoader", "exception_message": "The file is damaged.\n"}


def prompt(worker="", job=JOB, kind="PulidApplyFlux"):
    collect = {
        "images": ["ours", 0],
        "multi_job_id": job,
        "is_worker": bool(worker),
        "enabled_worker_ids": json.dumps(["w1", "w2"]),
        "worker_id": worker,
    }
    return {
        "ours": {"class_type": kind, "inputs": {}},
        "collect": {"class_type": "DistributedCollector", "inputs": collect},
    }


@pytest.mark.parametrize("node", [PulidLoader, PulidLoadIdentity])
def test_what_a_worker_lacks_it_says_with_its_name(node):
    register_folders()

    def refusal():
        try:
            if node is PulidLoader:
                return node.validate_inputs(pulid_file="not there.safetensors")
            return node.validate_inputs(image="not there.png")
        except PulidError as error:
            return str(error)

    workers.attend({"prompt": prompt(worker="w2")})
    assert refusal().startswith("Worker w2 on ")
    workers.attend({"prompt": {"ours": {"class_type": "PulidLoader", "inputs": {}}}})
    assert "not there" in refusal()
    assert "Worker" not in refusal()


@pytest.mark.parametrize(
    "request_body",
    [{}, {"prompt": None}, {"prompt": {"1": 2}}, {"prompt": {"1": {"inputs": {}}}}],
)
def test_other_prompts_pass(request_body):
    assert workers.attend(request_body) is request_body


class Machines:
    """Master and workers in one: it lists itself twice, and answers what a test says.

    Args:
        looks: How often the job is still in the queue.
        silent: How often its queue cannot be asked after that.
        messages: What the history says of it.
    """

    def __init__(self, looks=0, messages=(("execution_error", ERROR),), job=JOB, silent=0):
        self.looks, self.messages, self.job, self.silent = looks, messages, job, silent
        self.asked, self.sent = [], []

    async def answer(self, request):
        self.asked.append(request.path)
        entry = [0, "id", prompt("w1", self.job)]
        if request.path == "/distributed/config":
            near = {"host": "127.0.0.1", "port": self.port}
            return web.json_response(
                {"workers": [near | {"id": "w1", "name": "cellar"}, near | {"id": "w3"}]}
            )
        if request.path == "/queue":
            self.looks -= 1
            if -self.silent <= self.looks < 0:
                return web.Response(status=500)
            return web.json_response({"queue_running": [entry] if self.looks >= 0 else []})
        if self.messages is None:
            return web.Response(status=500)
        told = {"prompt": entry, "status": {"messages": self.messages}}
        return web.json_response({"id": told})

    def run(self, monkeypatch, **changed):
        async def serve():
            app = web.Application()
            app.router.add_get("/{path:.*}", self.answer)
            async with TestServer(app) as server:
                self.port = server.port
                monkeypatch.setattr(workers, "LOOK_S", 0)
                instance = SimpleNamespace(
                    address="",
                    port=self.port,
                    send_sync=lambda event, data: self.sent.append((event, data)),
                )
                monkeypatch.setattr(workers, "PromptServer", SimpleNamespace(instance=instance))
                workers.attend({"prompt": prompt(**changed)})
                await asyncio.gather(*workers._following)

        asyncio.run(serve())
        return self.sent


@pytest.mark.parametrize(("looks", "silent"), [(0, 0), (3, 0), (2, 5)])
def test_what_fails_on_a_worker_is_told_on_the_master(monkeypatch, looks, silent):
    """Once, by the worker's name, when it has left the queue; of those that take part alone."""
    machines = Machines(looks, silent=silent)
    told = {"worker": "cellar", "text": "PulidLoader: The file is damaged."}
    assert machines.run(monkeypatch) == [(workers.FAILED, told)]
    assert machines.asked.count("/queue") == looks + silent + 1


@pytest.mark.parametrize(
    "machines",
    [
        Machines(messages=[("execution_success", {})]),
        Machines(messages=None),
        Machines(messages=None, silent=99),
        Machines(job="other"),
    ],
    ids=["went well", "no history", "no answer", "another job"],
)
def test_of_what_did_not_fail_nothing_is_told(monkeypatch, machines):
    assert machines.run(monkeypatch) == []


def test_what_cannot_be_read_is_said_in_the_log(monkeypatch, caplog):
    """And ends nothing else; nobody waits for who asks the workers."""
    machines = Machines(messages=7)
    with pytest.raises(TypeError):
        machines.run(monkeypatch)
    assert [r.getMessage() for r in caplog.records if "is not known" in r.getMessage()]
    assert not workers._following


def test_graphs_without_our_nodes_are_not_followed(monkeypatch):
    machines = Machines()
    assert machines.run(monkeypatch, kind="KSampler") == []
    assert machines.asked == []
