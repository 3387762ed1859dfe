"""From files to rows: a film with a cut, and each tensor of its second clip computed anew.

Nothing of the library says what to expect: pictures are decoded here, the crop is a slice, and the
networks are asked directly.
"""

from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation
from diffusers import AutoencoderKL
from transformers import Wav2Vec2Model

from loopy.commands.preprocess import preprocess
from loopy.data.store.index import TEST, TRAIN, VALIDATION
from loopy.data.store.shot_store import ShotStore

RATE, PICTURES, CUT = Fraction(30_000, 1001), 90, 41
SPAN = range(35, 75)
"""Frames between picture 41, at 1.368 s, and picture 89, at 2.970 s."""
BOX = (10, 20, 66, 76)
"""A face from 24, 40 to 44 + 8, 60, the 8 for its way: 28 wide and 20 high, with 0.7, 0.8 and 0.6
of 20 around: 56 wide and 48 high, which is 4 too few above and below."""
SCALE = 0.18215
FORMS = {
    "late start": {"suffix": "mkv", "start_s": Fraction(3, 2)},
    "turned": {"suffix": "mov", "start_s": Fraction(3, 2), "rotation": 90},
}
ALL = ("latents", "log_variance", "latents_mirrored", "audio", "points", "valid", "pose")


def place(frame):
    """Still before the cut; from frame 35 to frame 74 it moves 8 px to the right."""
    return (24 + max(frame - 35, 0) * 8 / 39, 40)


@pytest.fixture(scope="module", params=FORMS)
def film(request, write_talk, tmp_path_factory):
    """At 29.97 pictures a second, with sound that comes 0.3 s after the pictures."""
    form = dict(FORMS[request.param])
    valid = torch.ones(75, 68, dtype=torch.bool)
    valid[50:53, 30] = False  # a gap to fill
    valid[60:68, 50] = False  # one too long for that
    valid[30:40, 9] = False  # one over the cut
    pose = torch.arange(75)[:, None] * torch.tensor([0.01, -0.002, 0.005])
    path = tmp_path_factory.mktemp("film") / f"talk.{form.pop('suffix')}"
    options = {"pictures": PICTURES, "rate": RATE, "cut": CUT, "late_s": 0.3, "at": place}
    return write_talk(path, **options, valid=valid, pose=pose, **form)


@pytest.fixture(scope="module")
def pictures(film):
    """RGB pictures nearest in time to the frames of the grid, and their places in the file."""
    turned = film.path.suffix == ".mov"  # see FORMS
    with av.open(str(film.path)) as file:
        decoded = list(file.decode(video=0))
    times = np.array([float((f.pts - decoded[0].pts) * f.time_base) for f in decoded])
    places = [int(np.abs(times - index / 25).argmin()) for index in range(75)]
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    rgb = [decoded[p].to_ndarray(format="rgb24", interpolation=exact) for p in places]
    shown = [np.rot90(picture, turned) for picture in rgb]
    return torch.from_numpy(np.stack(shown)), places


@pytest.fixture(scope="module")
def prepare(talk_parts, talk_options, tmp_path_factory):
    """Videos to a store: (videos, changed options); other keywords go to the command."""

    def run(videos, changes, **others):
        root = tmp_path_factory.mktemp("store")
        options = replace(talk_options, **changes)
        preprocess(str(videos), root, parts=talk_parts, options=options, **others)
        return ShotStore.open(root)

    return run


def in_order(store, names):
    """Clips as (what is known of them, tensors), by their first moment."""
    abouts = sorted(map(store.about, range(len(store))), key=lambda a: a["provenance"]["start_s"])
    return [(about, store.read(about["id"], dict.fromkeys(names, slice(None)))) for about in abouts]


@pytest.fixture(scope="module")
def store(film, prepare):
    return prepare(film.path, {"size_px": 56, "log_variance": True, "mirrored": True})


@pytest.fixture(scope="module")
def second(store):
    return in_order(store, ALL)[1][1]


@pytest.fixture(scope="module")
def posterior(talk_parts):
    """What the autoencoder itself says of bytes (f h w 3)."""
    vae = AutoencoderKL.from_pretrained(talk_parts / "vae", low_cpu_mem_usage=False).eval()

    @torch.no_grad()
    def encode(crops):
        return vae.encode(crops.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist

    return encode


@pytest.fixture(scope="module")
def vectors(film, talk_parts):
    """What wav2vec2 itself hears in the whole sound: two vectors a frame, the last one again."""
    network = Wav2Vec2Model.from_pretrained(talk_parts / "audio_encoder").eval()
    sound = torch.from_numpy(film.sound).float()
    normal = (sound - sound.mean()) / sound.std(correction=0)
    with torch.no_grad():
        heard = network(normal[None], output_hidden_states=True).hidden_states
    heard = torch.stack(heard, 2)[0]
    return heard[torch.arange(150).clamp(max=len(heard) - 1)]


def same_and_unlike(found, expected, *others):
    """Equal to half precision, and so much so that others could not be taken for it."""
    torch.testing.assert_close(found.float(), expected, atol=5e-4, rtol=2e-3)
    error = (found.float() - expected).abs().mean()
    for other in others:
        rows = min(len(found), len(other))
        assert (found[:rows].float() - other[:rows]).abs().mean() > 20 * error


def test_a_cut_makes_two_clips(store):
    first, second = (about for about, _ in in_order(store, []))
    assert (first["frames"], second["frames"]) == (34, 40)
    first, second = first["provenance"], second["provenance"]
    assert (first["start_s"], first["stop_s"]) == (0, 34 / 25)
    assert (second["start_s"], second["stop_s"]) == (35 / 25, 75 / 25)
    assert tuple(second["crop_px"]) == BOX
    assert first["crop_px"][2] - first["crop_px"][0] == 48  # of a face that stands still
    assert second["source_fps"] == pytest.approx(float(RATE), rel=1e-4)


def test_no_picture_is_from_the_other_side_of_the_cut(pictures):
    """Which is what the next test expects: frame 34 shows picture 41, and is in neither clip."""
    places = pictures[1]
    assert places[33] == CUT - 1
    assert places[34] == CUT
    assert min(places[35:]) > CUT


def test_the_pictures_of_the_second_clip(second, pictures, posterior):
    left, top, right, bottom = BOX
    crops = pictures[0][35:, top:bottom, left:right]
    truth, flipped, later, beside = map(
        posterior,
        (
            crops,
            crops.flip(2),
            crops[1:],
            pictures[0][35:, top:bottom, left + 1 : right + 1],
        ),
    )
    others = [SCALE * other.mean for other in (later, beside)]
    same_and_unlike(second["latents"], SCALE * truth.mean, SCALE * flipped.mean, *others)
    same_and_unlike(second["latents_mirrored"], SCALE * flipped.mean, SCALE * truth.mean)
    spread = truth.logvar + 2 * np.log(SCALE)  # of the latents times the factor
    same_and_unlike(second["log_variance"], spread, truth.logvar, later.logvar)


def test_the_sound_of_the_second_clip(second, vectors):
    rows = vectors.unflatten(0, (-1, 2)).mean(1)
    same_and_unlike(second["audio"], rows[35:], rows[36:], rows[34:])


def test_the_track_of_the_second_clip(second, film):
    valid = film.tracks.valid[35:].clone()
    valid[50 - 35 : 53 - 35, 30] = True  # a straight line, as the face has moved
    assert torch.equal(second["valid"], valid)
    points = film.tracks.points[35:] - torch.tensor(BOX[:2])
    torch.testing.assert_close(second["points"][valid], points[valid], atol=1e-3, rtol=0)
    torch.testing.assert_close(second["pose"], film.tracks.pose[35:])


def test_at_50_hz_the_sound_is_all_that_was_heard(film, prepare, second, vectors):
    store = prepare(film.path, {"size_px": 56, "audio_rate_hz": 50})
    audio = in_order(store, ["audio"])[1][1]["audio"]
    same_and_unlike(audio, vectors[70:], vectors[71:])
    pairs = audio.float().unflatten(0, (-1, 2)).mean(1)
    same_and_unlike(second["audio"], pairs, pairs[1:])


def test_who_is_seen_decides_the_split(write_talk, prepare, tmp_path):
    """A folder a person. The hash of bo is 0.24 of the largest one, of cleo 0.80, of ada 0.99."""
    for name in ("ada/a.mkv", "ada/another.mkv", "bo/a.mkv", "cleo/one.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_talk(tmp_path / name, pictures=26)
    store = prepare(tmp_path, {"identity": "folder"}, validation=0.5, test=0.3)
    people = [store.about(row)["provenance"]["identity"] for row in range(len(store))]
    assert sorted(people) == ["ada", "ada", "bo", "cleo"]
    numbers = [int.from_bytes(sha256(name.encode()).digest()[:8], "big") for name in people]
    assert store.index["identity"].tolist() == numbers
    sides = {"ada": TRAIN, "bo": TEST, "cleo": VALIDATION}
    assert store.index["split"].tolist() == [sides[name] for name in people]


def test_a_video_is_one_person_where_none_is_named(store, film):
    content = sha256(film.path.read_bytes()).hexdigest()
    assert {about["provenance"]["identity"] for about, _ in in_order(store, [])} == {content}
    assert len(set(store.index["split"].tolist())) == 1


def test_a_shot_without_sound_is_silent_on_request(write_talk, talk_options, prepare, tmp_path):
    """The sound ends in the first shot; without the request the second one is rejected."""
    path = tmp_path / "talk.mkv"
    write_talk(path, pictures=60, cut=30, silent_from_s=1.08)
    loud = prepare(path, {})
    assert loud.index["frames"].tolist() == [27]  # as far as it is heard
    silent = replace(talk_options.filters, need_sound=False)
    (whole, first), (about, second) = in_order(prepare(path, {"filters": silent}), ["audio"])
    assert about["frames"] == len(second["audio"]) == 30
    assert not second["audio"].any()
    assert whole["frames"] == 30
    assert first["audio"][:27].flatten(1).any(1).all()
    assert not first["audio"][27:].any()
