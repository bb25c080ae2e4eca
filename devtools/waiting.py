"""ComfyUI servers whose only work is to wait, and the graph for them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .comfyui import ComfyServer

PACK = Path(__file__).with_name("pack_waiting")
BOOK = "waited.txt"


def graph(seconds: float) -> dict[str, dict]:
    """In API format: the photo, its wait, and the picture saved."""
    wait = {"image": ["1", 0], "text": "", "seed": 0, "seconds": seconds}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "any.png"}},
        "2": {"class_type": "PulidTestWait", "inputs": wait},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }


@contextmanager
def servers(
    count: int, comfyui: Path, folder: Path, models: Path
) -> Iterator[Sequence[ComfyServer]]:
    """Start servers beside each other."""
    made = [
        ComfyServer(comfyui, folder / str(number), models, packs=(PACK,), cpu=True)
        for number in range(count)
    ]
    with ExitStack() as stack, ThreadPoolExecutor(count) as starters:
        for server in made:
            stack.callback(server.stop)
        list(starters.map(ComfyServer.__enter__, made))
        yield made


def finished(server: ComfyServer) -> list[str]:
    """What a server waited for to the end."""
    book = server.base_dir / "output" / BOOK
    return book.read_text().splitlines() if book.exists() else []
