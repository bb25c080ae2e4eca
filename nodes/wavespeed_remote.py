"""WaveSpeedAI's hosted FLUX-PuLID as nodes: thin shells over pulid_core.wavespeed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .display import shown
from .values import require_values
from .wavespeed_inputs import (
    STATE_FOLDER,
    batch_inputs,
    limit_inputs,
    main_inputs,
    rerun_inputs,
    service_inputs,
    side_inputs,
)
from .wavespeed_workers import refuse_on_workers

if TYPE_CHECKING:
    from ..pulid_core.wavespeed import Batch, Progress

CATEGORY = "PuLID FLUX/remote"


class WavespeedFluxPulidRemote(io.ComfyNode):
    """Portraits by WaveSpeedAI's hosted FLUX-PuLID."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and what the user should know before pressing Run."""
        return io.Schema(
            node_id="WavespeedFluxPulidRemote",
            display_name="WaveSpeed FLUX PuLID (remote)",
            category=CATEGORY,
            search_aliases=[
                *("wavespeed", "pulid", "face", "identity", "portrait", "cloud"),
                *("consistent character", "same person"),
            ],
            description=(
                "Generates portraits of the person in a photo with WaveSpeedAI's hosted FLUX-PuLID, "
                "for about $0.02 per image. The photo is sent to WaveSpeedAI and kept there for up "
                "to 7 days under a public but unguessable address: use it with the consent of the "
                "person shown. The key comes from WAVESPEED_API_KEY, or from the file api_key in "
                f"ComfyUI's user folder under __{STATE_FOLDER}; never from the workflow."
            ),
            inputs=[
                *(*main_inputs(), *side_inputs(), *batch_inputs(), *limit_inputs()),
                *(*rerun_inputs(), *service_inputs()),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            outputs=[
                io.Image.Output(
                    "images", tooltip="The portraits: photo by photo, then prompt, then seed."
                ),
                io.String.Output(
                    "metadata", tooltip="JSON: per image the service's answer, seed and warnings."
                ),
                io.String.Output(
                    "prediction_ids",
                    tooltip="One id per line. With prediction_id they are fetched again for free.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        prompt: str | None = None,
        size: str | None = None,
        prediction_id: str | None = "",
    ) -> bool:
        """Refuse at queue time, once, what can be refused; a linked input is None and waits.

        Raises:
            RemoteInputError: The prompt is blank, or the size is none.
        """
        from ..pulid_core.wavespeed.errors import RemoteInputError
        from ..pulid_core.wavespeed.jobs import parse_size

        if prompt is not None and not prompt.strip() and prediction_id == "":
            raise RemoteInputError("The prompt must not be blank.")
        if size is not None:
            parse_size(size)
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        seed: int | None = None,
        force_rerun: bool | None = False,
        prediction_id: str | None = "",
        **_: object,
    ) -> float:
        """Always run with a drawn seed or by force; otherwise ComfyUI's cache may answer."""
        fetches = bool((prediction_id or "").strip())
        return float("nan") if not fetches and (seed == -1 or force_rerun) else 0.0

    @classmethod
    async def execute(
        cls, max_wait_s: int | None = None, prediction_id: str | None = None, **inputs: Any
    ) -> io.NodeOutput:
        """Generate, or fetch by id, and return the pictures as one batch."""
        from . import wavespeed_background as background

        require_values(cls, max_wait_s=max_wait_s, prediction_id=prediction_id, **inputs)
        inputs = {name: value for name, value in inputs.items() if value is not None}
        client = background.open_client()
        max_wait_s, ids = max_wait_s or 600, background.read_ids(prediction_id or "")
        request = None if ids else background.request_of(max_wait_s=max_wait_s, **inputs)
        if request:
            refuse_on_workers(cls)

        def work(progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Batch:
            if request is None:
                return client.collect(
                    ids, max_wait_s=max_wait_s, progress=progress, cancelled=cancelled
                )
            return client.run(request, progress=progress, cancelled=cancelled)

        return background.output_of(await background.supervise(work))


class WavespeedAccount(io.ComfyNode):
    """Whether the key works, and what the account can pay."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """No inputs; one line of text."""
        return io.Schema(
            node_id="WavespeedAccount",
            display_name="WaveSpeed Account",
            category=CATEGORY,
            search_aliases=["wavespeed", "balance", "price", "key"],
            description="Shows whether a WaveSpeed key is found, the balance and the price of one "
            "image. Costs nothing and never shows the key.",
            inputs=[],
            outputs=[io.String.Output("report", tooltip="Key found, balance and price.")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls) -> float:
        """A balance changes: always ask."""
        return float("nan")

    @classmethod
    async def execute(cls) -> io.NodeOutput:
        """Ask the service."""
        from . import wavespeed_background as background

        client = background.open_client()
        account = await background.supervise(lambda _, cancelled: client.account(cancelled))
        price = f"One image costs ${account.price_usd:.3f}"
        price += "." if account.quoted else " by the model's page."
        if account.balance_usd is None:
            key_file = client.state_dir / "api_key"
            report = f"No key found: set WAVESPEED_API_KEY, or put it into {key_file}. {price}"
        else:
            report = f"Key found. Balance ${account.balance_usd:.2f}. {price}"
        return io.NodeOutput(report, ui=shown(report))
