"""What to generate, as values: a Request is planned into Jobs, one per image.

The order of jobs is photo by photo, then prompt by prompt, then seed by seed.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..paid_jobs.clock import Cancelled
from ..paid_jobs.crew import Report
from .errors import MODEL, RemoteBudgetExceeded, RemoteInputError
from .images import EncodedPhoto
from .price_and_limits import (
    GUIDANCE_MAX,
    IMAGES_MAX,
    OUTPUT_FORMATS,
    RANDOM_SEED,
    SEED_MAX,
    SIDE_MAX,
    SIDE_MIN,
)

_SIZE = re.compile(r"\s*(\d{1,5})\s*[*xX×]\s*(\d{1,5})\s*")


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from "1024*1024", "1024x1024" or "1024×1024".

    Raises:
        RemoteInputError: Another form, or a side outside 256 to 1536.
    """
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise RemoteInputError(f"size must look like 1024*1024, not {str(text)[:40]!r}.")
    return check_size(int(match[1]), int(match[2]))


def check_size(width: int, height: int) -> tuple[int, int]:
    """The size, when both sides are in range.

    Raises:
        RemoteInputError: A side outside 256 to 1536.
    """
    if not (SIDE_MIN <= width <= SIDE_MAX and SIDE_MIN <= height <= SIDE_MAX):
        raise RemoteInputError(
            f"WaveSpeed's FLUX-PuLID makes images of {SIDE_MIN} to {SIDE_MAX} pixels per side, "
            f"not {width} x {height}."
        )
    return width, height


@dataclass(frozen=True)
class Request:
    """One call: every photo with every prompt, `num_images` times.

    Numbers of NumPy's are taken as Python's.

    Attributes:
        photos: Reference photos, each (H, W, C), floats in [0, 1] or uint8.
        prompts: At least one, none blank.
        width: Pixels, 256 to 1536.
        height: Pixels, 256 to 1536.
        guidance_scale: 0 to 20; the service advises 3 to 4.
        seed: 0 to 2147483647 for the first image, then counting up; -1 draws one.
        output_format: "png", "jpeg" or "webp"; how the service encodes the image.
        num_images: 1 to 16 seeds.
        base64_output: Ask for the image inside the answer, where the file host is blocked.
        sync_mode: Keep the creating request open until the image is ready.
        max_cost_usd: Refuse before anything is sent when the new images would cost more.
        max_wait_s: Longest wait for one image, from its acceptance; 30 to 3600.
        max_parallel: Jobs at once, 1 to 16.
        on_partial_failure: "raise", or "keep_successful" to return what there is.
        force_rerun: Pay again for images that were delivered already, or cannot be collected.
        cancel_at_service: On a stop, also ask the service to cancel what it is generating. Its pages
            document that; it was not tried with a live key.

    Raises:
        RemoteInputError: A number that is none.
    """

    photos: Sequence[NDArray[np.generic]] = field(repr=False)
    prompts: Sequence[str] = field(repr=False)
    width: int = 1024
    height: int = 1024
    guidance_scale: float = 3.5
    seed: int = RANDOM_SEED
    output_format: str = "png"
    num_images: int = 1
    base64_output: bool = False
    sync_mode: bool = False
    max_cost_usd: float = 0.5
    max_wait_s: float = 600
    max_parallel: int = 2
    on_partial_failure: Literal["raise", "keep_successful"] = "raise"
    force_rerun: bool = False
    cancel_at_service: bool = False

    def __post_init__(self) -> None:
        """Make numbers of one kind: 4 and 4.0 are the same picture, and are paid once."""
        for name, (read, wanted) in _NUMBERS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, read(value))
            except (TypeError, OverflowError):
                found = f"{name} must be {wanted}, not of type {type(value).__name__}"
                raise RemoteInputError(f"Nothing was sent: {found}.") from None

    @property
    def size(self) -> str:
        """The size as the service writes it."""
        return f"{self.width}*{self.height}"

    def check(self) -> None:
        """Refuse inputs outside their ranges.

        Raises:
            RemoteInputError: Which input, what was found, what is allowed.
        """
        check_size(self.width, self.height)
        # A single text is a sequence of texts too: each letter would be ordered.
        is_list = isinstance(self.prompts, Sequence) and not isinstance(self.prompts, str)
        prompts = self.prompts if is_list else [None]
        rules = (
            (len(self.photos) > 0, "a reference image is needed"),
            (len(prompts) > 0, "a prompt is needed"),
            (all(isinstance(prompt, str) for prompt in prompts), "prompts must be a list of texts"),
            (all(str(prompt).strip() for prompt in prompts), "the prompt must not be blank"),
            (0 <= self.guidance_scale <= GUIDANCE_MAX, "guidance_scale must be 0 to 20"),
            (RANDOM_SEED <= self.seed <= SEED_MAX, "seed must be -1 to 2147483647"),
            (self.output_format in OUTPUT_FORMATS, "output_format must be png, jpeg or webp"),
            (1 <= self.num_images <= IMAGES_MAX, f"num_images must be 1 to {IMAGES_MAX}"),
            (self.max_cost_usd >= 0, "max_cost_usd must not be negative"),
            (30 <= self.max_wait_s <= 3600, "max_wait_s must be 30 to 3600"),
            (1 <= self.max_parallel <= 16, "max_parallel must be 1 to 16"),
            (
                self.on_partial_failure in ("raise", "keep_successful"),
                "on_partial_failure must be raise or keep_successful",
            ),
        )
        broken = [text for holds, text in rules if not holds]
        if broken:
            raise RemoteInputError(f"Nothing was sent: {'; '.join(broken)}.")


def _real(value: Any) -> float:
    return float(operator.pos(value)) + 0.0  # a text is none, and minus zero is zero


_WHOLE = ("width", "height", "seed", "num_images", "max_parallel")
_REAL = ("guidance_scale", "max_cost_usd", "max_wait_s")
_NUMBERS = dict.fromkeys(_WHOLE, (operator.index, "a whole number"))
_NUMBERS |= dict.fromkeys(_REAL, (_real, "a number"))


@dataclass(frozen=True)
class Job:
    """One image to generate.

    Attributes:
        key: The same for the same image on the same account, in every run.
        image_index: Position of the photo, from 0.
        prompt_index: Position of the prompt, from 0.
        seed: 0 to 2147483647.
    """

    key: str
    photo: EncodedPhoto = field(repr=False)
    prompt: str = field(repr=False)
    image_index: int
    prompt_index: int
    seed: int
    request: Request = field(repr=False)

    def inputs(self) -> dict[str, Any]:
        """What is sent, apart from the photo's address."""
        return {
            "prompt": self.prompt,
            "size": self.request.size,
            "guidance_scale": round(self.request.guidance_scale, 4),
            "seed": self.seed,
            "output_format": self.request.output_format,
        }

    def was_asked(self, inputs: Mapping[str, Any] | None) -> bool | None:
        """Whether a listed prediction was asked for this, however the service writes its inputs.

        None where they are not told, or not enough of them.
        """
        told = {name: inputs[name] for name in self.inputs() if inputs and name in inputs}
        if not all(_is_same(name, own, told.get(name, own)) for name, own in self.inputs().items()):
            return False
        return True if "prompt" in told else None

    def facts(self) -> dict[str, Any]:
        """What the metadata of its images says about it."""
        sent = self.inputs()
        return {
            "seed": self.seed,
            "prompt_index": self.prompt_index,
            "image_index": self.image_index,
            "size_requested": sent["size"],
            "guidance_scale": sent["guidance_scale"],
            "output_format": sent["output_format"],
        }


@dataclass(frozen=True)
class RunOptions:
    """How a job is run.

    Attributes:
        max_wait_s: Longest wait from acceptance.
        force: Generate anew what was delivered before, or cannot be collected.
        over_budget: Why this job may not order anything; None when its price was checked.
    """

    cancelled: Cancelled
    report: Report
    max_wait_s: float = 600
    force: bool = False
    cancel_at_service: bool = False
    over_budget: RemoteBudgetExceeded | None = None


def _is_same(name: str, own: Any, told: Any) -> bool:
    """Whether a value may be ours, written another way: 256x320, "7", 3.50001, a cut prompt.

    Only a value that is written as such a value is another one.
    """
    ours, theirs = (" ".join(str(value).split()) for value in (own, told))
    if name == "prompt":
        start = re.sub(r"(\.\.\.|…)$", "", theirs)
        return theirs == ours or (len(start) >= 8 and ours.startswith(start))
    if name == "size":
        match = _SIZE.fullmatch(theirs)
        return not match or f"{int(match[1])}*{int(match[2])}" == ours
    if name == "output_format":
        return theirs.lower().replace("jpg", "jpeg") == ours or theirs.lower() not in OUTPUT_FORMATS
    try:
        return abs(float(theirs) - float(ours)) < 0.001
    except (ValueError, OverflowError):
        return True


def run_key(request: Request, photos: Sequence[EncodedPhoto], account: str) -> str:
    """A name for a request whatever its seed, so that an unfinished run finds its draw again."""
    return _digest(
        {
            **_same_for_all(request, account),
            "photos": [photo.digest for photo in photos],
            "prompts": list(request.prompts),
            "num_images": request.num_images,
        }
    )


def plan_jobs(
    request: Request, photos: Sequence[EncodedPhoto], seed: int, account: str
) -> list[Job]:
    """The jobs of a request, in the order of its images; twins share their key."""
    same = _same_for_all(request, account)
    jobs = []
    for image_index, photo in enumerate(photos):
        for prompt_index, prompt in enumerate(request.prompts):
            for step in range(request.num_images):
                job_seed = (seed + step) % (SEED_MAX + 1)
                own = {"model": MODEL, "photo": photo.digest, "prompt": prompt, "seed": job_seed}
                places = (image_index, prompt_index)
                jobs.append(Job(_digest(same | own), photo, prompt, *places, job_seed, request))
    return jobs


def _same_for_all(request: Request, account: str) -> dict[str, Any]:
    return {
        "size": [request.width, request.height],
        "guidance_scale": round(request.guidance_scale, 4),
        "output_format": request.output_format,
        "account": account,
    }


def _digest(facts: dict[str, Any]) -> str:
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
