"""What the remote node lets its user set."""

from __future__ import annotations

from comfy_api.latest import io

from ..pulid_core.wavespeed.price_and_limits import (
    GUIDANCE_MAX,
    IMAGES_MAX,
    OUTPUT_FORMATS,
    RANDOM_SEED,
    SEED_MAX,
    SIDE_MAX,
    SIDE_MIN,
)

STATE_FOLDER = "wavespeed_flux_pulid"  # in ComfyUI's user folder; not reachable over HTTP


def main_inputs() -> list[io.Input]:
    """What the service is asked for."""
    return [
        io.Image.Input(
            "image",
            optional=True,
            tooltip="Photo of the person, face clear and well lit. Not needed with prediction_id.",
        ),
        io.String.Input(
            "prompt",
            multiline=True,
            tooltip="What the portrait shows. Not needed with prediction_id.",
        ),
        io.String.Input(
            "size", default="1024*1024", tooltip="Width*height in pixels, 256 to 1536 each."
        ),
        io.Float.Input(
            "guidance_scale",
            default=3.5,
            min=0.0,
            max=GUIDANCE_MAX,
            step=0.1,
            tooltip="How closely the prompt is followed. 0 and 1 are loose; the service advises 3 to 4.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=RANDOM_SEED,
            max=SEED_MAX,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The same seed gives the same image, without a second charge; a new one "
            "gives, and bills, a new image. -1 draws a new one at every run, so that every run is billed.",
        ),
        io.Combo.Input(
            "output_format",
            options=list(OUTPUT_FORMATS),
            default=OUTPUT_FORMATS[0],
            tooltip="How the service encodes the image. png loses nothing; the price is the same.",
        ),
    ]


def side_inputs() -> list[io.Input]:
    """The size from other nodes."""
    return [
        io.Int.Input(
            "width",
            optional=True,
            force_input=True,
            min=SIDE_MIN,
            max=SIDE_MAX,
            tooltip="Width in pixels; overrides size when height is linked too.",
        ),
        io.Int.Input(
            "height",
            optional=True,
            force_input=True,
            min=SIDE_MIN,
            max=SIDE_MAX,
            tooltip="Height in pixels; overrides size when width is linked too.",
        ),
    ]


def batch_inputs() -> list[io.Input]:
    """How many images one run gives."""
    return [
        io.Int.Input(
            "num_images",
            optional=True,
            default=1,
            min=1,
            max=IMAGES_MAX,
            tooltip="Images per photo and prompt, with seeds counting up; 1 is a single image. Each "
            "is billed.",
        ),
        io.Combo.Input(
            "batch_mode",
            optional=True,
            options=["each", "first_only"],
            default="each",
            tooltip="each: every photo of a batch gives its own images; a batch is not several "
            "views of one person here. first_only: only the first photo is used.",
        ),
        io.Boolean.Input(
            "prompt_per_line",
            optional=True,
            default=False,
            tooltip="On: every line of the prompt is a prompt of its own. Off: all lines are one.",
        ),
    ]


def limit_inputs() -> list[io.Input]:
    """What a run may cost and how long it may take."""
    return [
        io.Float.Input(
            "max_cost_usd",
            optional=True,
            default=0.5,
            min=0.0,
            max=100.0,
            step=0.01,
            tooltip="US dollars. A run whose new images would cost more is refused before anything is "
            "sent: 0 only collects what was paid before, 1 allows about 50 images. The price is per "
            "size, quoted by the service; without a quote it is the list price.",
        ),
        io.Int.Input(
            "max_wait_s",
            optional=True,
            default=600,
            min=30,
            max=3600,
            advanced=True,
            tooltip="Longest wait for one image in seconds. A later run collects it.",
        ),
        io.Int.Input(
            "max_parallel",
            optional=True,
            default=2,
            min=1,
            max=16,
            advanced=True,
            tooltip="Images at once; 1 is one after another. New accounts may run 2.",
        ),
    ]


def rerun_inputs() -> list[io.Input]:
    """What becomes of images that failed, or were paid before."""
    return [
        io.Combo.Input(
            "on_partial_failure",
            optional=True,
            options=["raise", "keep_successful"],
            default="raise",
            advanced=True,
            tooltip="raise: an error when one image fails; the others are saved and free at the "
            "next run. keep_successful: go on with those there are.",
        ),
        io.Boolean.Input(
            "force_rerun",
            optional=True,
            default=False,
            advanced=True,
            tooltip="On: pay again for images that were delivered before, or that were paid and cannot be "
            "collected. Off: they come from this computer, or are collected.",
        ),
    ]


def service_inputs() -> list[io.Input]:
    """How the service is spoken to."""
    return [
        io.Boolean.Input(
            "enable_base64_output",
            optional=True,
            default=False,
            advanced=True,
            tooltip="On: the image comes inside the answer, for networks that block the file host. "
            "Off: it is downloaded.",
        ),
        io.Boolean.Input(
            "enable_sync_mode",
            optional=True,
            default=False,
            advanced=True,
            tooltip="On: one long request per image, one at a time. Off is more robust.",
        ),
        io.String.Input(
            "prediction_id",
            optional=True,
            default="",
            advanced=True,
            tooltip="Ids of earlier predictions, one per line or separated by commas: they are fetched, "
            "nothing is generated or billed. Empty: the prompt is used.",
        ),
        io.Boolean.Input(
            "cancel_at_service",
            optional=True,
            default=False,
            advanced=True,
            tooltip="On: Cancel also asks WaveSpeed to stop what it generates. Its pages document that, "
            "with partial refunds; it was not tried with a live key. Off: it is billed, and collected "
            "by the next run.",
        ),
    ]
