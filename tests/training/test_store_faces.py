"""Pictures for the autoencoder: the crops that the store's latents were made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from loopy.data.media.writer import open_writer
from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shots import write_shot
from loopy.errors import ConfigurationError, MediaError
from loopy.training.store_faces import StoreFaces

SIDE_PX, FRAMES = 32, 6


@pytest.fixture
def store(tmp_path, make_record):
    """Eight videos of their own grey each, brighter frame by frame, with the face in one corner."""
    root = tmp_path / "store"
    create_store(root, StoreDescription(16, (4, 8, 8), (3, 8)))
    for number in range(8):
        video = tmp_path / f"{number}.mkv"
        frames = np.zeros((FRAMES + 2, SIDE_PX, SIDE_PX, 3), np.uint8)
        frames[:, 8:24, 16:32] = 20 * number + 10 * np.arange(FRAMES + 2)[:, None, None, None]
        with open_writer(video, crf=1) as writer:
            writer.write(torch.from_numpy(frames))
        record = make_record(str(number), frames=FRAMES)
        about = replace(
            record.provenance, source=str(video), start_s=2 / 25, crop_px=(16, 8, 32, 24)
        )
        write_shot(root, replace(record, provenance=about))
    build_index(root, validation=0.4, test=0.0)
    return root


def test_every_second_crop_of_each_shot(store):
    data = StoreFaces(store=store, every=2, batch_size=4)
    shown, held_out = data.faces["training"], data.faces["validation"]
    assert len(shown.pictures) + len(held_out.pictures) == 8 * 3
    greys = shown.pictures.float().mean((1, 2, 3)).unflatten(0, (-1, 3))
    # the shot begins at frame 2 of its video
    torch.testing.assert_close(greys.diff(dim=1), torch.full_like(greys[:, 1:], 20), atol=4, rtol=0)
    firsts = [*greys[:, 0], *held_out.pictures.float().mean((1, 2, 3))[::3]]
    assert sorted(round((float(grey) - 20) / 20) for grey in firsts) == list(range(8))


def test_batches_are_functions_of_their_number(store):
    batches = [StoreFaces(store=store, batch_size=4).batches() for _ in range(2)]
    first, again = (each("training", 3, 0, 1) for each in batches)
    torch.testing.assert_close(first.pictures, again.pictures)
    assert first.pictures.shape == (4, 3, 16, 16)
    assert first.points.shape == (4, 68, 2)
    assert not torch.equal(first.pictures, batches[0]("training", 4, 0, 1).pictures)


def test_what_is_missing_is_named(store, tmp_path):
    (tmp_path / "3.mkv").unlink()
    with pytest.raises(MediaError, match=r"3\.mkv"):
        _ = StoreFaces(store=store).faces
    build_index(store, validation=0.0, test=0.0)
    with pytest.raises(ConfigurationError, match="no shots for validation"):
        _ = StoreFaces(store=store).faces
