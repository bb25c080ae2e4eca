"""A package that is not there is told apart from one that is there but cannot be imported."""

import sys

import numpy as np
import pytest
from pulid_pack.pulid_core.encoder.vision_tower import load_vision_tower
from pulid_pack.pulid_core.errors import MissingDependencyError, PulidError
from pulid_pack.pulid_core.face.analyser import FaceAnalyser
from pulid_pack.pulid_core.face.quality import sharpness
from pulid_pack.pulid_core.model_files.download import overview
from pulid_pack.pulid_core.model_files.finder import extra_folders
from pulid_pack.pulid_core.paid_jobs.errors import PaidJobError

PACKAGES = {
    "cv2": ("opencv-python", lambda _: sharpness(np.zeros((512, 512, 3), np.uint8))),
    "huggingface_hub": ("huggingface_hub", lambda _: overview({})),
    "insightface": ("insightface", FaceAnalyser),
    "timm": ("timm", load_vision_tower),
    "yaml": ("PyYAML", extra_folders),
}
"""Module -> its package, and what imports it, given a path."""


@pytest.mark.parametrize("module", PACKAGES)
def test_a_package_that_is_not_there(module, tmp_path, monkeypatch):
    package, use = PACKAGES[module]
    forget(module, monkeypatch)
    monkeypatch.setattr(sys, "meta_path", [Without(module), *sys.meta_path])
    (tmp_path / "file").touch()
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        use(tmp_path / "file")
    assert caught.value.package == package
    assert f"`pip install {package}`" in str(caught.value)


@pytest.mark.parametrize("module", PACKAGES)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "libGL.so.1: cannot"),
        ("import not_there_either", "No module named 'not_there_either'"),
        ("from os import newer", "cannot import name 'newer'"),
    ],
)
def test_a_package_that_cannot_be_imported(module, code, reason, tmp_path, monkeypatch):
    """A library or a package that it needs is missing, or it is too old; the reason is quoted."""
    package, use = PACKAGES[module]
    put(f"{module}/__init__.py", code, tmp_path, monkeypatch)
    with pytest.raises(MissingDependencyError, match="is installed but cannot be") as caught:
        use(tmp_path / module / "__init__.py")
    assert caught.value.package == package
    assert reason in str(caught.value)
    assert f"`pip uninstall {package}`" in str(caught.value)


def test_a_package_without_the_wanted_module_is_installed(tmp_path, monkeypatch):
    put("timm/__init__.py", "", tmp_path, monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"No module named 'timm\.models'"):
        load_vision_tower("")


class Without:
    """Finds everything but one module."""

    def __init__(self, module):
        self.module = module

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def put(file, code, folder, monkeypatch):
    """A package that is found before the real one."""
    path = folder / file
    path.parent.mkdir()
    path.write_text(code)
    forget(path.parent.name, monkeypatch)
    monkeypatch.syspath_prepend(folder)


def forget(module, monkeypatch):
    """As if it had not been imported yet."""
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)


def test_an_error_prints_under_a_short_name():
    """ComfyUI writes module and name before the text; of a node pack the module is a path."""
    kinds = [PulidError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert PaidJobError in kinds
    assert {kind.__module__ for kind in kinds} == {"pulid"}
