"""Held-out sentences of a store, and what is read in a film of a real face."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from loopy.data.media.video_reader import read_frames
from loopy.errors import MediaError
from loopy.evaluation.person.films import Judge, Sentence, in_a_row, measure_sentences
from loopy.faces.mesh import FaceMesh


@pytest.fixture(scope="module")
def judge(face_networks):
    return Judge(FaceMesh(face_networks, iris=False))


def test_a_still_face_does_not_move(judge):
    data = pytest.importorskip("skimage.data")
    portrait = torch.from_numpy(np.array(data.astronaut()))[:300, 80:380].contiguous()
    film = portrait.expand(4, -1, -1, -1).clone()
    film[2] = 0  # a frame without a face is read as the one before
    read = judge.read(film, portrait)
    assert read.found == 0.75
    assert read.opening.std() < 0.02
    assert 0 < read.opening.mean() < read.width.mean() < 1.2
    assert read.head.shape == (4, 5)
    assert read.likeness.numel() == 0
    assert judge.read(film, portrait).opening.equal(read.opening)


def test_a_film_without_a_face_is_refused(judge):
    grey = torch.full((3, 64, 64, 3), 90, dtype=torch.uint8)
    with pytest.raises(MediaError, match="no face in any frame"):
        judge.read(grey, grey[0])


def test_sentences_in_a_row():
    one = Sentence("a", torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(1280))
    sentences = [replace(one, name=name) for name in "abcdefg"]
    rows = in_a_row(sentences)
    assert [row.name for row in rows] == ["a_b_c", "d_e_f"]
    assert len(rows[0].frames) == 6
    assert len(rows[0].sound) == 3 * 1280


class Brightness:
    """Reads nothing but how bright a film is, and how long."""

    def read(self, frames, portrait):
        return len(frames), frames.float().mean().item(), portrait.float().mean().item()


def test_films_of_a_sentence(make_pipeline, tmp_path):
    pipe = make_pipeline()
    side, frames = pipe.settings.size_px, 7
    truths = [torch.full((frames + n, side, side, 3), 40 * n + 40).byte() for n in range(2)]
    sounds = [0.1 * torch.randn(640 * len(truth)) for truth in truths]
    sentences = [Sentence(*each) for each in zip("ab", truths, sounds, strict=True)]
    first, second = measure_sentences(pipe, Brightness(), sentences, videos=tmp_path)
    assert first.films["truth"] == (frames, 40, 40)
    assert first.films["still"] == first.films["truth"]
    assert first.films["mismatched"] == (frames, 80, 40)
    assert second.films["mismatched"] == (frames + 1, 40, 80)  # the shorter one stands still
    assert first.films["made"][0] == first.films["vae"][0] == frames
    video = read_frames(tmp_path / "a.mp4", range(frames))
    assert video.shape == (frames, side, 2 * side, 3)
