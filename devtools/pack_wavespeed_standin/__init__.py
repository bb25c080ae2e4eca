"""Lets the remote nodes of a test server talk to the stand-in; users never install this pack.

It replaces `open_client` of the installed pack by a client of the address in WAVESPEED_STANDIN_URL,
which must be on this machine. That client takes only keys that begin with "standin-": a real key
is never sent to a stand-in, and the pack itself, without this one beside it, has no such switch.
"""

import importlib
import os
import sys
from functools import lru_cache
from pathlib import Path

import folder_paths
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
KEY_PREFIX = b"standin-"
URL = os.environ["WAVESPEED_STANDIN_URL"]

if not URL.startswith("http://127.0.0.1:"):
    raise ValueError("A stand-in is on this machine: http://127.0.0.1:PORT")


def nodes_module():
    """What works behind the remote nodes as ComfyUI loaded them, under the folder as the name."""
    (name,) = (name for name in sys.modules if name.endswith(".nodes.wavespeed_inputs"))
    return importlib.import_module(name.replace("wavespeed_inputs", "wavespeed_background"))


@lru_cache(maxsize=1)
def open_client():
    """A client of the stand-in that is otherwise the node's own."""
    nodes = nodes_module()
    library = sys.modules[nodes.WavespeedClient.__module__.rpartition(".")[0] + ".library"]

    class StandinClient(library.WavespeedClient):
        def _find_key(self):
            key = super()._find_key()
            if not key.to_bytes().startswith(KEY_PREFIX):
                raise ValueError("The stand-in takes no real key.")
            return key

    return StandinClient(
        Path(folder_paths.get_system_user_directory(nodes.STATE_FOLDER)),
        transport=library.Transport(library.AddressPolicy(frozenset({URL}))),
        base_url=URL,
    )


def connect(prompt: dict) -> dict:
    """Runs before every prompt, when all packs are loaded whatever their order."""
    nodes_module().open_client = open_client
    return prompt


PromptServer.instance.add_on_prompt_handler(connect)
