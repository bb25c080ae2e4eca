"""Setting up: once, and again when what it depends on changes."""

import pytest
from pulid_pack.devtools import setup


def test_a_second_set_up_installs_nothing(tmp_path, monkeypatch):
    """And a changed requirement does; an interrupted one is taken up again."""
    (tmp_path / "requirements.txt").write_text("torch")
    installed = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "REQUIREMENTS", ("requirements.txt",) * 3)
    monkeypatch.setattr(setup, "make_venv", lambda: None)
    monkeypatch.setattr(setup, "provide", lambda *_, **__: tmp_path)
    monkeypatch.setattr(setup, "pip", lambda *arguments: installed.append(arguments))
    setup.set_up()
    assert installed
    installed.clear()
    setup.set_up()
    assert not installed

    (tmp_path / "requirements.txt").write_text("torch>2")
    monkeypatch.setattr(
        setup, "pip", lambda *_: (_ for _ in ()).throw(setup.SetupError("no network"))
    )
    with pytest.raises(setup.SetupError):
        setup.set_up()
    monkeypatch.setattr(setup, "pip", lambda *arguments: installed.append(arguments))
    setup.set_up()
    assert installed


@pytest.mark.parametrize(
    ("end", "installed"),
    [("lowest", ["face==2.0", "cv==4.10.0.84"]), ("newest", ["face>=2.0,<3", "cv>=4.10.0.84,<6"])],
)
def test_an_end_is_installed_once_per_requirements(end, installed, tmp_path, monkeypatch):
    """The lowest exactly, the newest as pip finds it; an interrupted one is taken up again."""
    requirements, python = tmp_path / "requirements.txt", tmp_path / "pyvenv.cfg"
    requirements.write_text("face>=2.0,<3\ncv>=4.10.0.84,<6\n")
    python.write_text("version = 3.10.1")
    calls = []

    def pip(*arguments):
        calls.append(list(arguments))
        (tmp_path / "bounds" / end).mkdir(parents=True)

    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "BOUNDS", tmp_path / "bounds")
    monkeypatch.setattr(
        setup, "pip", lambda *_: (_ for _ in ()).throw(setup.SetupError("no network"))
    )
    with pytest.raises(setup.SetupError):
        setup.install_end(end)
    monkeypatch.setattr(setup, "pip", pip)
    folder = setup.install_end(end)
    assert calls == [["--no-deps", "--target", str(folder), *installed]]
    assert setup.install_end(end) == folder
    assert len(calls) == 1
    requirements.write_text("face>=2.1,<3\n")
    setup.install_end(end)
    assert len(calls) == 2
    python.write_text("version = 3.11.0")
    setup.install_end(end)
    assert len(calls) == 3
    monkeypatch.setattr(setup.time, "strftime", lambda *_: "tomorrow")
    setup.install_end(end)
    assert len(calls) == (4 if end == "newest" else 3)


def test_a_whole_stage_is_not_made_again(tmp_path, monkeypatch):
    """Asked by its stamp, without importing torch; another source is another stage."""
    source = tmp_path / "devtools" / "tiny_stage.py"
    source.parent.mkdir()
    source.write_text("1")
    made = []
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "STAGE", tmp_path)
    monkeypatch.setattr(setup, "in_venv", lambda *command: made.append(command) and 0)
    setup.make_stage()
    assert made == [(source, tmp_path)]
    (tmp_path / "tiny-stage-whole").write_text(setup.digest([source]))
    setup.make_stage()
    assert len(made) == 1
    source.write_text("2")
    setup.make_stage()
    assert len(made) == 2
