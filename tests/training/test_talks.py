"""Clips cut from a cache of synthetic talks, and the cache itself."""

from dataclasses import replace

import pytest
import torch
from transformers import Wav2Vec2Config

from loopy.errors import ConfigurationError
from loopy.models import AudioEncoder
from loopy.models.folder import save_part
from loopy.models.latents import encode_images
from loopy.randomness import generator
from loopy.segments import SegmentLayout
from loopy.synthetic.talker import random_talk
from loopy.timing import AudioWindow
from loopy.training.autoencoder import small_autoencoder
from loopy.training.dropout import ConditionDropout
from loopy.training.start import load_frozen
from loopy.training.talks import AFTER_S, HELD_OUT, KINDS, SHARD, Recipe, SyntheticTalks, TalkShards

LAYOUT = SegmentLayout(stride=2, segments=3)
PAST, SLOTS, FRAMES = 14, 6, 3
DISTANCES = torch.tensor([13, 9, 5, 3, 1, 0])
"""How far behind the clip each motion frame stands, oldest first."""

RECIPE = Recipe(LAYOUT, FRAMES, size_px=16, seed=0)


def hearing():
    config = Wav2Vec2Config(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    return AudioEncoder.from_config(config)


def eyes(seed=0):
    torch.manual_seed(seed)
    return small_autoencoder(widths=(8, 16), latent_channels=4, groups=4, size_px=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Parts without skill, and room for a cache beside them."""
    folder = tmp_path_factory.mktemp("talks")
    eyes().save_pretrained(folder / "parts/vae")
    save_part(hearing(), folder / "parts", "audio_encoder")
    return folder


def talks(folder, **changes):
    options = {
        "talks": 2 * SHARD,
        "held_out": 4,
        "layout": LAYOUT,
        "clip_frames": FRAMES,
        "size_px": 16,
        "batch_size": 2,
        "build_workers": 0,
    }
    data = SyntheticTalks(parts=folder / "parts", cache=folder / "cache", **options | changes)
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def data(folder):
    return talks(folder)


@pytest.fixture(scope="module")
def parts(folder):
    return load_frozen(folder / "parts")


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


class TestCache:
    def test_it_is_made_once(self, data, folder):
        before = files(folder / "cache")
        assert len(before) == 3  # one shard of held-out talks
        again = talks(folder)
        assert files(folder / "cache") == before
        for name, values in data.samples.items():
            assert torch.equal(values, again.samples[name])

    def test_an_interrupted_build_goes_on(self, data, folder, parts):
        shards = TalkShards(folder / "cache", 2, RECIPE, *parts)
        kept, lost = (shards.folder / f"0000{i}.safetensors" for i in range(2))
        before = files(shards.folder)
        lost.unlink()
        lost.with_suffix(".1.draft").write_bytes(b"half a sha")
        again = shards.load(workers=0)
        after = files(shards.folder)
        assert set(after) == {kept, lost}
        assert after[kept] == before[kept]
        for name, values in data.samples.items():
            torch.testing.assert_close(values, again[name], rtol=0, atol=0, equal_nan=True)

    def test_other_parts_or_talks_have_a_place_of_their_own(self, folder, parts):
        def place(recipe=RECIPE, vae=parts.vae, audio_encoder=parts.audio_encoder):
            return TalkShards(folder, 1, recipe, vae, audio_encoder).folder

        scaled = eyes()
        assert place(vae=scaled) == place()
        scaled.register_to_config(scaling_factor=0.5)
        others = [
            place(vae=eyes(seed=1)),
            place(vae=scaled),
            place(audio_encoder=hearing()),
            place(Recipe(LAYOUT, FRAMES, size_px=16, seed=1)),
            place(Recipe(LAYOUT, FRAMES, size_px=16, seed=0, first_talk=HELD_OUT)),
            place(Recipe(LAYOUT, FRAMES + 1, size_px=16, seed=0)),
            place(replace(RECIPE, audio_window=AudioWindow(1, 1))),
            place(Recipe(SegmentLayout(stride=3, segments=2), FRAMES, size_px=16, seed=0)),
        ]
        assert place() == place()
        assert len({place(), *others}) == 9
        assert "audio_window" not in str(RECIPE)  # caches made before there was a choice hold

    def test_shapes(self, data):
        shapes = {name: tuple(values.shape[1:]) for name, values in data.samples.items()}
        assert shapes == {
            "latents": (SLOTS + FRAMES + 1, 4, 8, 8),
            "audio": (FRAMES + 4, 3, 8),
            "landmarks": (FRAMES, 204),
            "measures": (2,),
            "mouth": (FRAMES, 1, 8, 8),
            "eyes": (FRAMES, 1, 8, 8),
        }
        assert {len(values) for values in data.samples.values()} == {2 * SHARD}

    def test_held_out_talks_are_others(self, data):
        both = torch.cat([data.samples["latents"][:, -1], data.held_out_samples["latents"][:, -1]])
        assert len(both.flatten(1).unique(dim=0)) == 3 * SHARD


@pytest.fixture(scope="module")
def pair(data):
    """A clip of the first talk that speaks, and that talk drawn anew."""
    for number in range(SHARD):
        kind, _, seed = torch.randint(2**40, (3,), generator=generator(0, "talk", number)).tolist()
        if KINDS[kind % len(KINDS)] == "speech":
            break
    clip = data._clip(data.samples, torch.tensor([number]), torch.tensor([PAST]), generator(0))
    return clip, random_talk(seed, seconds=(PAST + FRAMES) / 25 + AFTER_S)


class TestClip:
    def test_pictures_are_those_of_the_clip_and_before_it(self, parts, pair):
        clip, talk = pair
        with torch.autocast("cpu", torch.bfloat16):
            every = encode_images(parts.vae, talk.frames(range(len(talk.controls)), size_px=16))

        def places(latents):
            return torch.cdist(latents.flatten(1), every.float().flatten(1)).argmin(1).tolist()

        assert places(clip.latents[0]) == [PAST, PAST + 1, PAST + 2]
        assert places(clip.motion_frames[0]) == (PAST - 1 - DISTANCES).tolist()
        assert places(clip.reference)[0] < PAST

    def test_each_frame_hears_two_frames_around_it(self, parts, pair):
        clip, talk = pair
        with torch.autocast("cpu", torch.bfloat16):
            heard = parts.audio_encoder.features(talk.audio).float()
        for frame in range(FRAMES):
            around = heard[PAST + frame - 2 : PAST + frame + 3]
            torch.testing.assert_close(clip.audio[0, frame], around, rtol=1e-2, atol=1e-2)

    def test_another_window_is_heard(self, data, folder):
        window = AudioWindow(40, 1)  # more than there is before the clip
        other = talks(folder, audio_window=window, talks=SHARD)
        whole, clip = (
            each._clip(each.samples, torch.tensor([0]), torch.tensor([PAST]), generator(0))
            for each in (data, other)
        )
        assert clip.audio.shape[1:3] == (FRAMES, 42)
        assert torch.equal(clip.audio[:, :, 38:42], whole.audio[:, :, :4])
        assert torch.equal(clip.latents, whole.latents)
        first = clip.audio[0, 0, 0]
        assert (
            clip.audio[0, 0, : 41 - PAST] == first
        ).all()  # the first frame stands for what lacks

    def test_points_are_those_of_the_clip(self, pair):
        clip, talk = pair
        truth = talk.motion[PAST : PAST + FRAMES].normalised()
        torch.testing.assert_close(clip.landmarks[0], truth)


def batches(data, number=12):
    return [data.make(generator("test", i)) for i in range(number)]


class TestHistories:
    def test_what_is_cut_off_is_zero_and_masked(self, folder):
        shown = batches(talks(folder, drops=ConditionDropout(full_history=0)))
        lengths = set()
        for clip in shown:
            there = clip.motion_frames.flatten(2).any(2)
            assert torch.equal(there, clip.past_present)
            for present in clip.past_present:
                # the newest are there, up to a whole number of clips
                fits = [n for n in range(0, PAST, FRAMES) if torch.equal(present, DISTANCES.lt(n))]
                assert fits
                lengths.add(fits[0])
        assert 0 in lengths
        assert len(lengths) > 3

    def test_whole_ones_are_whole(self, folder):
        for clip in batches(talks(folder, drops=ConditionDropout(full_history=1)), 3):
            assert clip.past_present.all()

    def test_short_ones_may_be_of_videos_that_began_with_the_portrait(self, folder):
        data = talks(folder, static_history=True, drops=ConditionDropout(full_history=0.3))
        latents = data.samples["latents"].float()
        lengths = []
        for clip in batches(data):
            assert clip.past_present.all()
            for i, frames in enumerate(clip.motion_frames):
                own = (latents[:, SLOTS:-1] == clip.latents[i]).flatten(1).all(1)
                truth = latents[own.nonzero()[0, 0]]
                held = [torch.equal(frame, clip.reference[i]) for frame in frames]
                begun = sum(held)  # of a whole history 1: its portrait is its first frame too
                lengths.append(begun)
                assert held == [True] * begun + [False] * (SLOTS - begun)
                assert torch.equal(clip.reference[i], truth[begun - 1])
                assert torch.equal(frames[begun:], truth[begun:SLOTS])
        assert {1, SLOTS} < set(lengths)
        assert len(set(lengths)) > 3

    def test_validation_has_whole_ones_of_every_held_out_talk(self, data):
        clips = list(data.val_dataloader())
        references = torch.cat([clip.reference for clip in clips])
        assert torch.equal(references, data.held_out_samples["latents"][:4, -1].float())
        assert all(clip.past_present.all() for clip in clips)


class TestBatches:
    def test_they_are_functions_of_the_generator(self, data):
        first, again = batches(data, 3), batches(data, 3)
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a.latents, b.latents)
            assert torch.equal(a.past_present, b.past_present)
        assert not torch.equal(first[0].latents, first[1].latents)

    def test_the_portrait_is_no_frame_of_the_clip(self, data):
        for clip in batches(data):
            assert not (clip.latents == clip.reference[:, None]).flatten(2).all(2).any()

    def test_the_portrait_is_one_of_them_on_request(self, folder):
        for clip in batches(talks(folder, reference="within")):
            assert (clip.latents == clip.reference[:, None]).flatten(2).all(2).any(1).all()

    def test_mouths_weigh_more_on_request_only(self, data, folder):
        assert batches(data, 1)[0].weight is None
        weight = batches(talks(folder, mouth_weight=8), 1)[0].weight
        assert weight.shape == (2, FRAMES, 1, 8, 8)
        assert set(weight.unique().tolist()) == {1, 8}

    def test_eyes_weigh_by_a_number_of_their_own(self, data, folder):
        clip, plain = (batches(talks(folder, mouth_weight=8, eye_weight=e), 1)[0] for e in (3, 1))
        extra = clip.weight - plain.weight
        assert set(extra.unique().tolist()) == {0, 2}
        assert extra[..., :4, :].any(-1).sum() > extra[..., 4:, :].any(-1).sum()  # eyes are above

    def test_a_held_out_set_of_broken_batches_is_refused(self, folder):
        with pytest.raises(ConfigurationError, match="multiple of batch_size"):
            talks(folder, held_out=3)


class TestWholePast:
    @pytest.mark.parametrize("static_history", [False, True])
    def test_it_gives_the_frames_that_the_layout_reads(self, folder, static_history):
        options = {"static_history": static_history, "drops": ConditionDropout(full_history=0.3)}
        some, every = talks(folder, **options), talks(folder, **options, past_frames=PAST)
        for ours, theirs in zip(batches(some, 4), batches(every, 4), strict=True):
            assert torch.equal(ours.past_present, theirs.past_present)
            for name in ("latents", "reference", "motion_frames", "audio"):
                torch.testing.assert_close(
                    getattr(ours, name), getattr(theirs, name), rtol=0.05, atol=0.05
                )

    def test_layouts_that_reach_less_share_a_cache(self, folder):
        talks(folder, past_frames=PAST)
        before = files(folder / "cache")
        layout = SegmentLayout(stride=2, segments=2, mode="mean")
        data = talks(
            folder, past_frames=PAST, layout=layout, drops=ConditionDropout(full_history=1)
        )
        assert files(folder / "cache") == before
        clip = data.make(generator("mean"))
        newest = data.samples["latents"].float()[:, :PAST].flip(1)
        talk = int(
            (data.samples["latents"][:, -1] == clip.reference[0].half())
            .flatten(1)
            .all(1)
            .nonzero()[0]
        )
        wanted = [newest[talk, a:b].mean(0) for a, b in [(4, 6), (2, 4), (1, 2), (0, 1)]]
        torch.testing.assert_close(clip.motion_frames[0], torch.stack(wanted))

    def test_it_must_reach_as_far_as_the_layout(self, folder):
        with pytest.raises(ConfigurationError, match=f"less than the {PAST}"):
            talks(folder, past_frames=PAST - 1)
