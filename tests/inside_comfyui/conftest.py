"""One real ComfyUI in this process, on the CPU, and the small models that the tests sample with.

COMFYUI_UNDER_TEST names the folder that holds ComfyUI's `main.py`; one process can import only one
version. Without it nothing here is collected: the caller starts one pytest per version.
"""

import os
import sys
import warnings
from pathlib import Path

import pytest
import torch

COMFYUI = os.environ.get("COMFYUI_UNDER_TEST")

if not COMFYUI:
    collect_ignore_glob = ["test_*.py"]
else:
    sys.path.insert(0, COMFYUI)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ComfyUI's own imports are not under test
        import utils.extra_config  # noqa: F401 - first, as in main.py: later utils is comfy/utils.py
        from comfy.cli_args import args

        args.cpu = True
        import comfy.sd
        import folder_paths

    from pulid_pack.tests.inside_comfyui.world import World

    torch.set_num_threads(1)  # tensors this small lose more to threads than they gain

    # What ComfyUI itself, or torch on its behalf, warns about while sampling.
    COMFYUI_WARNINGS = (
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::UserWarning:torch",
        "ignore::UserWarning:comfy",
    )

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker("comfy")
                for warning in COMFYUI_WARNINGS:
                    item.add_marker(pytest.mark.filterwarnings(warning))

    @pytest.fixture(scope="session")
    def world(tmp_path_factory: pytest.TempPathFactory) -> World:
        """Small models and everything to sample with them."""
        folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("previews")))
        return World(tmp_path_factory.mktemp("models"))

    @pytest.fixture(autouse=True)
    def _like_a_node():
        """ComfyUI runs all nodes without gradients."""
        with torch.inference_mode():
            yield

    @pytest.fixture
    def model(world: World):
        """A FLUX of 3 double and 5 single blocks, fresh from the loader."""
        return world.load_flux()

    @pytest.fixture
    def pulid(world: World):
        """PuLID for it: four cross attentions."""
        return world.load_pulid()

    @pytest.fixture(scope="session")
    def real_depth(stage: Path):
        """FLUX's 19 double and 38 single blocks, and PuLID's 20 cross attentions: the stage's files."""
        with torch.inference_mode():
            flux = comfy.sd.load_diffusion_model(
                str(stage / "diffusion_models/flux1-dev.safetensors")
            )
            return flux, World.pulid(stage / "pulid/pulid_flux_v0.9.1.safetensors")
