from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from loopy.data.media.sound import read_audio
from loopy.data.media.video import Video, contact_sheet
from loopy.data.media.video_reader import iterate_frames
from loopy.errors import ConfigurationError, OutputError


def numbered(frames, height=16, width=32):
    """Frame i is of the colour (i, i, 255 - i)."""
    levels = torch.arange(frames, dtype=torch.uint8)
    colour = torch.stack([levels, levels, 255 - levels], dim=1)
    return colour[:, None, None].expand(frames, height, width, 3)


def test_saved_video_has_frames_rate_and_sound(tmp_path):
    video = Video(numbered(30), fps=Fraction(30), audio=torch.zeros(16_000))
    path = video.save(tmp_path / "out.mp4")
    assert path == tmp_path / "out.mp4"
    assert len(list(iterate_frames(path, fps=30))) == 30
    assert len(read_audio(path)) == pytest.approx(16_000, abs=1024)
    again = Video(numbered(25), audio=path)  # the sound of a video, by its name
    assert len(read_audio(again.save(str(tmp_path / "again.mkv")))) >= 16_000
    with pytest.raises(OutputError):
        video.save(tmp_path / "out.xyz")


@pytest.mark.parametrize(("frames", "columns"), [(1, 4), (4, 4), (5, 4), (7, 3)])
def test_contact_sheet_reads_like_a_page(frames, columns):
    sheet = np.array(contact_sheet(numbered(frames), columns=columns))
    across = min(frames, columns)
    assert sheet.shape == (-(-frames // columns) * 16, across * 32, 3)
    cells = sheet.reshape(-1, 16, across, 32, 3).swapaxes(1, 2).reshape(-1, 16, 32, 3)
    assert np.array_equal(cells[:frames], numbered(frames))
    assert (cells[frames:] == 255).all()


def test_sheet_of_a_video_spans_all_of_it():
    sheet = Video(numbered(100)).sheet(columns=4, rows=3)
    assert isinstance(sheet, Image.Image)
    levels = np.array(sheet)[::16, ::32, 0].reshape(-1)
    assert levels.tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert Video(numbered(2)).sheet(columns=4, rows=3).size == (64, 16)


def test_empty_sheets_are_refused():
    with pytest.raises(ConfigurationError, match="of no frames"):
        contact_sheet(numbered(0))
    with pytest.raises(ConfigurationError, match="columns is 0"):
        contact_sheet(numbered(3), columns=0)
