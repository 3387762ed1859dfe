"""`loopy faces show`: the faces of a picture, listed and drawn."""

import pytest
from PIL import Image

from loopy.cli import main


@pytest.fixture
def picture(tmp_path, astronaut):
    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut.numpy()).save(path)
    return path


def test_faces_are_listed_and_drawn(faces_installed, picture, tmp_path, capsys):
    assert main(["faces", "show", str(picture), "--out", str(tmp_path / "drawn.png")]) == 0
    said = capsys.readouterr().out
    assert "1 faces" in said
    assert "0: score 1.00, box 17" in said
    before, after = (Image.open(path).convert("RGB") for path in (picture, tmp_path / "drawn.png"))
    assert before.size == after.size
    assert before.tobytes() != after.tobytes()


def test_the_picture_itself_is_not_overwritten(faces_installed, picture, capsys):
    before = picture.read_bytes()
    assert main(["faces", "show", str(picture), "--out", str(picture)]) == 2
    assert picture.read_bytes() == before


def test_a_folder_without_the_networks_names_the_command(picture, tmp_path, capsys):
    assert main(["faces", "show", str(picture), "--models", str(tmp_path)]) == 2
    assert "run: loopy faces install" in capsys.readouterr().err
