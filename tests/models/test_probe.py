import pytest
import torch

from loopy.errors import ModelError, OutputError
from loopy.models.gate import Gate
from loopy.models.probe import to_pictures
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import Tracker
from loopy.models.weights import round_to_half
from loopy.randomness import generator

JUDGES = pytest.mark.parametrize("kind", [Tracker, Recogniser, Gate])
CARD = {"made_by": {"steps": 0}}


@JUDGES
def test_judges_of_the_package_are_small(kind):
    sizes = {path.suffix: path.stat().st_size for path in kind.home().iterdir()}
    assert set(sizes) == {".json", ".safetensors"}
    assert sizes[".safetensors"] <= 1_100_000


@JUDGES
def test_saved_judge_is_the_rounded_one_in_full_precision(kind, tmp_path):
    judge = kind().eval()
    round_to_half(judge)
    judge.save_pretrained(tmp_path, card=CARD)
    again = kind.from_pretrained(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(judge.parameters(), again.parameters(), strict=True)
    )
    assert all(weight.dtype == torch.float32 for weight in again.parameters())
    assert not again.training
    assert kind.card(tmp_path) == CARD


@JUDGES
def test_a_lost_or_damaged_file_is_said(kind, tmp_path):
    with pytest.raises(ModelError, match=f"train_{kind.name}"):
        kind.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{kind.name}.json"):
        kind.card(tmp_path)
    (tmp_path / f"{kind.name}.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        kind.from_pretrained(tmp_path)


@JUDGES
def test_a_folder_that_cannot_be_written_is_said(kind, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        kind().save_pretrained(tmp_path / "file", card=CARD)


def test_frames_become_pictures_of_one_size():
    frames = torch.randint(256, (2, 64, 96, 3), generator=generator(1), dtype=torch.uint8)
    pictures = to_pictures(frames)
    assert pictures.shape == (2, 3, 128, 128)
    assert -1 <= pictures.min() < pictures.max() <= 1
    white = to_pictures(torch.full((1, 128, 128, 3), 255, dtype=torch.uint8))
    assert torch.equal(white, torch.ones(1, 3, 128, 128))
