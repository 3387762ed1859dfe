"""No verb writes over or into what it reads; it says so before any work."""

from pathlib import Path

import pytest

from loopy.cli import main
from loopy.commands.init import init
from loopy.errors import OutputError


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder with the names that the words below read."""
    for name in ("run/checkpoints/last.ckpt", "run/config.yaml", "store/videos/a.mp4", "d/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("of the user")
    for name in ("tiny/model_index.json", "recipes/base.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("trainer: {max_steps: 1}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "export --ckpt run/checkpoints/last.ckpt --out run/checkpoints/last.ckpt",
            "is inside checkpoint run/checkpoints/last.ckpt",
        ),
        ("evaluate toon --model tiny --out tiny/vae", "is inside the model's vae tiny/vae"),
        ("evaluate celebv-hq --data d --out d/judged", "is inside data d"),
        ("evaluate open-set --data d --out d/sounds", "is inside sounds d/sounds"),
        (
            "preprocess store/videos store --parts tiny",
            "is inside the store's records of videos store/videos",
        ),
        ("preprocess d tiny/vae --parts tiny", "is inside vae of --parts tiny/vae"),
        (
            "ablate --recipes recipes --variants full --out recipes/base.yaml",
            "is inside recipe base",
        ),
        ("data report store --out store/clips/report", "is inside folder of the store"),
    ],
)
def test_what_is_read_is_not_written_to(room, capsys, words, told):
    before = {path: path.read_text() for path in room.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert {path: path.read_text() for path in room.rglob("*") if path.is_file()} == before


def test_a_new_model_lies_apart_from_its_parts(room):
    parts = {"sd15": Path("tiny"), "wav2vec2": "d", "vae": None, "motion_module": None}
    for out in ("tiny", "tiny/new", "d/new"):
        with pytest.raises(OutputError, match=r"model (tiny|d)"):
            init(**parts, out=Path(out), network=None, autoencoder={}, scheduler=None,
                 settings=None, text_width=0)  # fmt: skip
