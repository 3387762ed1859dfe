"""The sync judge for people: its files, its encoder, and what it sees of a face."""

import json

import pytest
import torch
from transformers import Wav2Vec2Config

from loopy.errors import ModelError
from loopy.metrics.sync_scores import load_people_judge
from loopy.models import AudioEncoder
from loopy.models.folder import save_part
from loopy.models.people_sync import (
    CARD,
    WEIGHTS,
    PeopleSyncJudge,
    PeopleSyncSettings,
    encoder_fingerprint,
    lip_motion,
)
from loopy.models.weights import round_to_half
from loopy.randomness import generator


def ears(seed=0):
    torch.manual_seed(seed)
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16}
    more = {"intermediate_size": 16, "num_conv_pos_embedding_groups": 2}
    return AudioEncoder.from_config(Wav2Vec2Config(**shape, **convolutions, **more))


@pytest.fixture
def place(tmp_path):
    """Folders of a tiny judge and of the encoder that it names, which is stored in halves."""
    encoder = ears()
    settings = PeopleSyncSettings(encoder.layers, encoder.width, encoder_fingerprint(encoder), 0.1)
    PeopleSyncJudge(settings).save_pretrained(tmp_path / "judge", card={"made_by": "a test"})
    save_part(encoder, tmp_path, "audio_encoder", dtype=torch.float16)
    return tmp_path


def points(frames=12):
    return 60 * torch.rand(frames, 68, 2, generator=generator("points"))


def test_a_judge_and_its_encoder_come_out_of_their_folders(place):
    judge, encoder = load_people_judge(place / "judge", audio_encoder=place / "audio_encoder")
    sound = judge.embed_sound(encoder.features(torch.randn(12 * 640)))
    mouth = judge.embed_points(points())
    assert sound.shape == mouth.shape == (8, 64)
    torch.testing.assert_close(mouth.norm(dim=1), torch.ones(8))
    assert judge.card(place / "judge")["made_by"] == "a test"
    torch.manual_seed(0)
    made = PeopleSyncJudge(judge.settings).eval()
    round_to_half(made)
    made.save_pretrained(place / "again", card={})
    torch.testing.assert_close(
        PeopleSyncJudge.from_pretrained(place / "again").embed_points(points()),
        made.embed_points(points()),
    )


def test_another_encoder_of_the_same_shape_is_refused(place):
    save_part(ears(seed=1), place / "other", "audio_encoder")
    with pytest.raises(ModelError, match=r"has learned from the audio encoder [0-9a-f]{32}, not"):
        load_people_judge(place / "judge", audio_encoder=place / "other/audio_encoder")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": "three"}, "describes no judge: settings.layers"),
        ({"layers": 10**9}, "describes no judge"),
        ({"width": -1}, "describes no judge"),
        ({"colour": 1}, "settings.colour is nothing that is known"),
        ({"width": 9}, "shape"),
    ],
)
def test_a_damaged_judge_is_said(place, change, words):
    card = json.loads((place / "judge" / CARD).read_text())
    card["settings"] |= change
    (place / "judge" / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=words):
        PeopleSyncJudge.from_pretrained(place / "judge")


def test_a_lost_file_is_said(place):
    (place / "judge" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="train_people_sync"):
        PeopleSyncJudge.from_pretrained(place / "judge")
    with pytest.raises(ModelError, match=r"sync\.json"):
        PeopleSyncJudge.card(place)


def test_whose_mouth_it_is_does_not_count():
    track = points()
    track[:, 36:48] = track[:1, 36:48]  # eyes and nose hold still
    track[:, 27:31] = track[:1, 27:31]
    other = track.clone()
    other[:, 48:] += 9 * torch.rand(1, 20, 2)  # other lips, which move in the same way
    torch.testing.assert_close(lip_motion(other), lip_motion(track), atol=1e-4, rtol=1e-4)
    track[3, 50] = torch.nan
    assert lip_motion(track).isnan().flatten(1).any(1).nonzero().tolist() == [[3]]
