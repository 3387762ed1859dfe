"""A portrait and a sound become a video: the promises of docs/architecture.md, end to end."""

import gc
import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from loopy.diffusion.options import DiffusionContract, RolloutState, Sampling, SamplingOptions
from loopy.diffusion.rollout import next_clip
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError, MediaError, ModelError, OutputError, SubjectError
from loopy.models import AudioProjection
from loopy.models.latents import decode_latents
from loopy.pipeline import LoopyPipeline
from loopy.segments import SegmentLayout
from loopy.stopwatch import Stopwatch
from loopy.subject import Subject
from loopy.timing import AudioWindow, frame_count
from tests.memory import PEAK

FRAMES = 3  # of a clip
ROOT = Path(__file__).parents[1]


@pytest.fixture
def pipe(make_pipeline):
    return make_pipeline()


@pytest.fixture
def portrait():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 25, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def subject(pipe, portrait):
    return pipe.prepare(portrait)


def sound(seconds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(16_000 * seconds), generator=generator)


def video(pipe, subject, voice, **options):
    """Frames; ``options`` are `SamplingOptions`, but for the seed."""
    seed = options.pop("seed", 0)
    chosen = SamplingOptions(**options)
    return torch.cat(list(pipe.stream(subject, voice, seed=seed, options=chosen)))


def test_another_audio_window_goes_all_the_way(pipe, subject):
    sizes = {"layers": 3, "width": 8, "hidden": 16, "tokens": 2, "token_width": 12}
    pipe.network.audio_projection = AudioProjection(neighbours=7, **sizes)
    voice = sound(0.7)
    assert len(video(pipe, subject, voice, steps=1)) == frame_count(len(voice))
    pipe.network.audio_projection = None
    assert pipe.audio_window == AudioWindow()


class TestCachesChangeNothing:
    def test_one_call_is_clip_by_clip_with_the_state_saved(self, pipe, subject, tmp_path):
        voice, clips = sound(0.7), []
        state = RolloutState.first(subject.latents, seed=5)
        for audio in pipe.audio_encoder.clips(voice, FRAMES):
            latents, state = next_clip(
                pipe.network,
                pipe.scheduler,
                reference=pipe.network.encode_reference(subject.latents),
                audio=audio,
                state=state,
                size=tuple(subject.latents.shape[1:]),
                contract=pipe.settings.contract,
                sampling=pipe.settings.sampling,
            )
            pictures = decode_latents(pipe.vae, latents[0])
            clips.append(((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
            torch.save(vars(state), tmp_path / "state.pt")
            state = RolloutState(**torch.load(tmp_path / "state.pt"))
        assert len(clips) == 6
        assert torch.equal(video(pipe, subject, voice, seed=5), torch.cat(clips)[:18])

    def test_a_static_history_is_a_past_of_portraits(self, pipe, subject):
        """The stream begins from it, and the first clip sees it."""
        voice = sound(0.12)
        plain = video(pipe, subject, voice)
        contract = replace(pipe.settings.contract, static_history=True)
        pipe.settings = replace(pipe.settings, contract=contract)
        still = video(pipe, subject, voice)
        assert plain.shape == still.shape
        assert not torch.equal(plain, still)

    def test_a_saved_subject_is_a_fresh_one(self, pipe, subject, portrait, tmp_path):
        subject.save(tmp_path / "subject.safetensors")
        loaded = Subject.load(tmp_path / "subject.safetensors")
        expected = video(pipe, portrait, sound(0.3))
        assert torch.equal(video(pipe, subject, sound(0.3)), expected)
        assert torch.equal(video(pipe, loaded, sound(0.3)), expected)

    def test_branches_one_after_another(self, pipe, subject):
        stacked = video(pipe, subject, sound(0.3)).int()
        alone = video(pipe, subject, sound(0.3), stacked=False).int()
        assert (stacked - alone).abs().max() <= 1  # rounding to whole numbers

    def test_a_saved_model_is_the_same(self, pipe, subject, tmp_path):
        pipe.save_pretrained(tmp_path / "model")
        loaded = LoopyPipeline.from_pretrained(tmp_path / "model")
        assert loaded.settings == pipe.settings
        assert torch.equal(video(loaded, subject, sound(0.3)), video(pipe, subject, sound(0.3)))

    @pytest.mark.parametrize("motion_frames", [True, False])
    def test_a_clip_ahead(self, pipe, subject, motion_frames):
        given = {"motion_frames": motion_frames, "seed": 5}
        plain, ahead = (
            torch.cat(list(pipe.stream(subject, sound(0.7), ahead=each, **given)))
            for each in (False, True)
        )
        assert torch.equal(plain, ahead)


class TestAhead:
    def test_a_video_that_is_given_up_leaves_no_thread(self, pipe, subject):
        before = threading.active_count()
        clips = pipe.stream(subject, sound(0.7), ahead=True)
        next(clips)
        assert threading.active_count() == before + 1
        clips.close()
        assert threading.active_count() == before

    def test_an_error_comes_behind_the_clips_before_it(self, pipe, subject, monkeypatch):
        clips = pipe.stream(subject, sound(0.7), ahead=True)
        begun, step = threading.Event(), pipe.network.denoiser.forward

        def forward(*args, **options):
            assert begun.wait(10)
            return step(*args, **options) * torch.nan

        assert len(next(clips)) == FRAMES  # the next one may have begun
        monkeypatch.setattr(pipe.network.denoiser, "forward", forward)
        begun.set()
        with pytest.raises(ModelError, match="not finite"):
            list(clips)

    def test_the_next_clip_is_denoised_while_one_is_used(self, pipe, subject):
        steps, second = [], threading.Event()

        def note(*_):
            steps.append(threading.current_thread())
            if len(steps) == 2 + 1:  # steps of a clip, and the next one's first
                second.set()

        pipe.network.denoiser.register_forward_hook(note)
        clips = pipe.stream(subject, sound(0.7), ahead=True)
        next(clips)
        assert second.wait(10)
        assert threading.current_thread() not in steps
        assert len(list(clips)) == 5

    def test_gradients_are_not_kept(self, pipe, subject):
        """The mode of the caller's thread is not that of the other."""
        graphs = []
        pipe.network.denoiser.register_forward_hook(
            lambda _, args, out: graphs.append(out.requires_grad)
        )
        list(pipe.stream(subject, sound(0.3), ahead=True))
        assert graphs
        assert not any(graphs)


class TestWhatDecidesAVideo:
    def test_the_seed(self, pipe, subject):
        first = video(pipe, subject, sound(0.3))
        assert torch.equal(video(pipe, subject, sound(0.3)), first)
        assert not torch.equal(video(pipe, subject, sound(0.3), seed=1), first)

    def test_the_voice(self, pipe, subject):
        first = video(pipe, subject, sound(0.3))
        assert not torch.equal(video(pipe, subject, sound(0.3, seed=1)), first)

    def test_the_portrait(self, pipe, portrait, subject):
        other = pipe.prepare(portrait, box=(0, 0, 18, 18))
        assert not torch.equal(video(pipe, other, sound(0.1)), video(pipe, subject, sound(0.1)))

    def test_options_leave_what_the_weights_were_trained_for(self, make_pipeline, portrait):
        """The model's own values, given in a call, change nothing, whatever the model is."""
        pipe = make_pipeline(
            sampling={"audio_ratio": 1.0, "reference_ratio": 1.0},
            contract={"residual": 0.45, "shared_noise": 0.95, "static_history": True},
        )
        subject, voice = pipe.prepare(portrait), sound(0.2)
        given = video(pipe, subject, voice, steps=2, audio_ratio=1.0)
        assert torch.equal(given, pipe(subject, voice).frames)

    def test_a_contract_in_a_call_is_refused(self, pipe, subject):
        with pytest.raises(ConfigurationError, match="trained for cannot be chosen in a call"):
            pipe(subject, sound(0.1), options=DiffusionContract())


class TestTimeIsExact:
    @given(samples=st.integers(640, 9_000))
    @example(samples=640)
    @example(samples=959)
    @example(samples=960)
    @example(samples=FRAMES * 640)
    @settings(
        max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_frames_are_the_rounded_seconds(self, pipe, subject, samples):
        fast = SamplingOptions(steps=1, audio_ratio=1, reference_ratio=1)
        clips = list(pipe.stream(subject, sound(samples / 16_000), options=fast))
        assert sum(len(clip) for clip in clips) == frame_count(samples)
        assert len(clips) == pipe.num_clips(torch.zeros(samples))
        assert all(len(clip) == FRAMES for clip in clips[:-1])

    def test_at_another_sample_rate(self, pipe, subject):
        made = pipe(subject, sound(0.9), rate_hz=48_000)  # a third of 0.9 s
        assert made.frames.shape == (8, 16, 16, 3)
        assert made.audio.shape == (4800,)

    def test_under_one_frame_is_refused(self, pipe, subject):
        with pytest.raises(MediaError, match=r"0\.04 s"):
            pipe(subject, torch.zeros(639))


def held():
    """Bytes of all tensors that live."""
    gc.collect()
    storages = {
        o.untyped_storage().data_ptr(): o.untyped_storage().nbytes()
        for o in gc.get_objects()
        if type(o) in (torch.Tensor, torch.nn.Parameter)  # compiled tests leave other kinds
    }
    return sum(storages.values())


class TestMemoryIsFlat:
    def test_clip_after_clip(self, pipe, subject):
        """Nothing is kept of a clip once the past is full: 6 clips in, 30 clips in."""
        fast = SamplingOptions(steps=1, audio_ratio=1, reference_ratio=1)
        clips = enumerate(pipe.stream(subject, sound(3.6), options=fast), 1)
        early, late = (held() for number, _ in clips if number in (6, 30))
        assert late <= early  # features of the sound are let go as they are used

    def test_span_after_span_of_sound(self, pipe):
        """In the second span of 30 s, the third and the last."""
        clips = enumerate(pipe.audio_encoder.clips(sound(95.0), 25), 1)
        second, third, last = (held() for number, _ in clips if number in (32, 62, 92))
        frame = pipe.audio_encoder.layers * pipe.audio_encoder.width * 4
        assert max(third, last) <= second + 10 * frame

    @pytest.mark.slow
    def test_ten_minutes(self, pipe, portrait, tmp_path):
        pipe.save_pretrained(tmp_path / "model")
        portrait.save(tmp_path / "portrait.png")
        script = (
            PEAK + "import sys, torch; from loopy import LoopyPipeline, SamplingOptions\n"
            "pipe = LoopyPipeline.from_pretrained('model'); torch.set_num_threads(1)\n"
            "sound = 0.1 * torch.randn(16_000 * int(sys.argv[1]))\n"
            "options = SamplingOptions(steps=1, audio_ratio=1, reference_ratio=1)\n"
            "frames = sum(len(c) for c in pipe.stream('portrait.png', sound, options=options))\n"
            "print(frames, peak_kib())\n"
        )
        peaks_kb = {}
        for seconds in (60, 600):
            done = subprocess.run(
                [sys.executable, "-c", script, str(seconds)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            frames, peak_kb = map(int, done.stdout.split())
            assert frames == 25 * seconds
            peaks_kb[seconds] = peak_kb - seconds * 16_000 * 4 / 1024
        assert peaks_kb[600] < 1.05 * peaks_kb[60]


@pytest.fixture
def rows(pipe):
    """How many rows each call of the denoiser had."""
    counts = []
    pipe.network.denoiser.register_forward_hook(lambda _, args, out: counts.append(len(out)))
    return counts


class TestGuidance:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"audio_ratio": 5, "reference_ratio": 3}, [3, 3]),
            ({"audio_ratio": 3, "reference_ratio": 3}, [2, 2]),
            ({"audio_ratio": 5, "reference_ratio": 1}, [2, 2]),
            ({"audio_ratio": 1, "reference_ratio": 1}, [1, 1]),
            ({"guidance_stop": 0.5}, [3, 1]),
            ({"guidance_start": 0.5}, [1, 3]),
        ],
    )
    def test_only_branches_with_a_weight_are_run(self, pipe, subject, rows, options, expected):
        video(pipe, subject, sound(0.1), **options)
        assert rows == expected

    def test_one_after_another(self, pipe, subject, rows):
        video(pipe, subject, sound(0.1), stacked=False)
        assert rows == [1] * 6

    def test_what_does_not_depend_on_the_step_is_computed_once(self, pipe, subject):
        """Each frame passes the reference net once; the wave is encoded once."""
        calls, images = {"time": 0, "wave": 0}, []

        def count(name):
            def hook(*_):
                calls[name] += 1

            return hook

        pipe.network.audio_projection.register_forward_hook(count("time"))
        pipe.audio_encoder.network.register_forward_hook(count("wave"))
        pipe.network.reference_net.conv_in.register_forward_hook(
            lambda _, args, out: images.append(len(out))
        )
        video(pipe, subject, sound(0.48), steps=4)
        assert calls == {"time": 4, "wave": 1}
        assert images == [1, 2, 3, 3]  # the portrait; no past, 2 of a short one, then 3 new ones

    def test_penalties_are_computed_once_a_video(self, make_pipeline, make_dual, portrait):
        pipe, sizes = make_pipeline(), []
        pipe.network = make_dual(shape={"locality": 1.0}).eval()
        for _, stage in pipe.network.denoiser.stages():
            for transformer in stage.attentions:
                penalty = transformer.penalty
                transformer.penalty = lambda *size, of=penalty: sizes.append(size) or of(*size)
        video(pipe, pipe.prepare(portrait), sound(0.48), steps=4)
        assert len(sizes) == len(pipe.network.penalties(8, 8))


class TestInputs:
    def test_silence_is_a_video(self, pipe, subject):
        assert video(pipe, subject, torch.zeros(4800)).shape == (8, 16, 16, 3)

    def test_files(self, pipe, portrait, write_speech, tmp_path):
        portrait.save(tmp_path / "portrait.png")
        write_speech(tmp_path / "speech.wav", 0.2)
        made = pipe(str(tmp_path / "portrait.png"), tmp_path / "speech.wav")
        assert made.frames.dtype == torch.uint8
        assert made.frames.shape == (5, 16, 16, 3)
        assert made.audio == tmp_path / "speech.wav"

    def test_arrays(self, pipe, subject):
        voice = sound(0.2)
        from_array = pipe(subject, voice.numpy()).frames
        assert torch.equal(from_array, pipe(subject, voice).frames)

    def test_what_a_web_page_gives(self, pipe, portrait):
        """gradio: an array of uint8, and a pair of rate and integers."""
        voice = (sound(0.2).numpy() * 32_767).astype(np.int16)
        made = pipe(np.asarray(portrait), (16_000, voice)).frames
        assert torch.equal(made, pipe(portrait, voice).frames)

    def test_a_tall_portrait_without_a_box_warns(self, pipe, portrait):
        tall = portrait.resize((90, 160))
        with pytest.warns(UserWarning, match="picture is 90 x 160 px: .* 0 35 90 125") as told:
            pipe.prepare(tall)
        assert told[0].filename == __file__
        pipe.prepare(tall, box=(0, 0, 90, 90))
        pipe.prepare(portrait.resize((100, 125)))

    def test_a_portrait_unlike_the_training_pictures_warns(self, make_pipeline, portrait):
        pipe = make_pipeline(toons=True, domain="toon portraits")
        with pytest.warns(UserWarning, match=r"animates toon portraits; the portrait .*--box"):
            pipe.prepare(portrait)

    def test_a_box_beside_the_face_warns(self):
        pipe = LoopyPipeline.from_pretrained()
        pipe.prepare(ROOT / "examples/portrait.png")
        with pytest.warns(UserWarning, match="--box"):
            pipe.prepare(ROOT / "examples/portrait.png", box=(0, 0, 60, 60))

    def test_a_model_of_other_portraits_has_no_gate(self, make_pipeline, portrait):
        make_pipeline(domain="toon portraits").prepare(portrait)

    def test_preparing_decodes_nothing(self, make_pipeline, portrait):
        pipe = make_pipeline()
        expected = pipe.prepare(portrait)
        pipe.vae.decoder = None
        assert torch.equal(pipe.prepare(portrait).latents, expected.latents)

    def test_where_the_time_went(self, pipe, subject):
        watch = Stopwatch()
        list(pipe.stream(subject, sound(0.1), stopwatch=watch))
        assert set(watch.seconds) == {"audio", "reference", "denoise", "decode"}

    def test_in_half_precision(self, pipe, portrait):
        pipe.to("cpu", dtype=torch.bfloat16)
        assert pipe(portrait, sound(0.2)).frames.shape == (5, 16, 16, 3)
        assert pipe.vae.dtype == torch.float32
        assert pipe.to(dtype="float16").network.denoiser.dtype == torch.float16
        for wrong in ("half a bit", "Tensor", torch.int8, 16):
            with pytest.raises(ConfigurationError, match=r"^dtype is .*; give torch\.float32"):
                pipe.to(dtype=wrong)

    def test_damaged_weights_make_no_black_video(self, pipe, subject):
        with torch.no_grad():
            pipe.network.denoiser.conv_out.bias.fill_(torch.nan)
        pipe._made_with = pipe.network, pipe.vae, subject.weights  # as it was before
        with pytest.raises(ModelError, match="not finite"):
            pipe(subject, sound(0.1))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_near(self, dtype):
        """Of the model that comes along: within one step of 255 in the mean."""
        picture, voice = Image.open(ROOT / "examples/portrait.png"), sound(0.4)
        plain, half = (LoopyPipeline.from_pretrained(dtype=each) for each in (None, dtype))
        subject = plain.prepare(picture)
        options = SamplingOptions(steps=1)
        made = [pipe(subject, voice, options=options).frames.float() for pipe in (plain, half)]
        assert half.network.denoiser.dtype == dtype
        assert 0 < (made[0] - made[1]).abs().mean() < 1


class TestSubjects:
    def test_a_subject_of_other_weights_is_refused(self, make_pipeline, pipe, subject):
        with pytest.raises(SubjectError, match="other weights"):
            next(make_pipeline(seed=1).stream(subject, sound(0.1)))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_any_precision_of_the_model_takes_it(self, pipe, subject, dtype):
        pipe.to("cpu", dtype=dtype)
        assert pipe(subject, sound(0.1)).frames.shape[1:] == (16, 16, 3)

    def test_one_with_keys_of_an_older_version_is_read(self, pipe, subject, tmp_path):
        about = {"weights": pipe.weights, "round_trip_db": "much"}
        tensors = {"latents": subject.latents, "mid_block.0/key": torch.zeros(1, 2, 3, 4)}
        save_file(tensors, tmp_path / "old", metadata=about)
        made = video(pipe, Subject.load(tmp_path / "old"), sound(0.1))
        assert torch.equal(made, video(pipe, subject, sound(0.1)))

    def test_a_flipped_bit_is_found(self, subject, tmp_path):
        subject.save(tmp_path / "subject")
        content = bytearray((tmp_path / "subject").read_bytes())
        content[-3] ^= 1
        (tmp_path / "subject").write_bytes(content)
        with pytest.raises(SubjectError, match="damaged"):
            Subject.load(tmp_path / "subject")

    @pytest.mark.parametrize("latents", [torch.full((1, 4, 8, 8), torch.nan), torch.zeros(4, 8)])
    def test_latents_that_make_no_picture_are_refused(self, latents):
        with pytest.raises(SubjectError, match="prepare"):
            Subject(latents, "")

    @pytest.mark.parametrize("shape", [(5, 8, 8), (4, 16, 16), (4, 8, 10)])
    def test_of_another_shape(self, pipe, shape):
        with pytest.raises(
            SubjectError, match=rf"\({shape[0]}, {shape[1]}, .*prepare the portrait"
        ):
            pipe(Subject(torch.zeros(1, *shape), pipe.weights), sound(0.1))

    @pytest.mark.parametrize("change", ["weights", "scaling"])
    def test_one_of_another_autoencoder_is_refused(self, make_pipeline, pipe, subject, change):
        other = make_pipeline()
        if change == "scaling":
            other.vae.register_to_config(scaling_factor=0.5)
        else:
            other.vae.decoder.conv_out.bias.data += 1
        with pytest.raises(SubjectError, match="another autoencoder; prepare the portrait again"):
            other(subject, sound(0.1))

    def test_one_that_does_not_name_its_autoencoder_is_taken(self, pipe, subject, make_pipeline):
        older = replace(subject, weights=" ".join(pipe.weights.split()[:2]))
        assert torch.equal(pipe(older, sound(0.1)).frames, pipe(subject, sound(0.1)).frames)
        with pytest.raises(SubjectError, match="other weights"):
            make_pipeline(seed=1)(older, sound(0.1))

    def test_no_subject(self, tmp_path):
        with pytest.raises(SubjectError, match="is not a prepared subject"):
            Subject.load(tmp_path / "none.safetensors")
        (tmp_path / "text").write_text("hello")
        with pytest.raises(SubjectError, match="is not a prepared subject"):
            Subject.load(tmp_path / "text")

    def test_nowhere_to_save(self, subject, tmp_path):
        with pytest.raises(OutputError, match="none does not exist; make it first"):
            subject.save(tmp_path / "none" / "subject")


class TestSettings:
    def test_they_survive_json(self):
        chosen = Settings(
            size_px=128,
            sampling=Sampling(audio_ratio=4, reference_ratio=2, guidance_start=0.1),
            contract=DiffusionContract(SegmentLayout(2, 3, 4, mode="near"), shared_noise=0.5),
        )
        assert Settings.from_json(_json(chosen)) == chosen

    def test_those_of_an_older_model_are_read(self):
        old = """{"size_px": 128, "clip_frames": 12, "rollout": {"steps": 4,
            "guidance": {"audio": 1.5, "reference": 1.0, "start": 0.25, "stop": 1.0},
            "layout": {"stride": 4, "expand": 2, "segments": 5, "mode": "near"},
            "noise_share": 0.95, "stacked": false, "residual": 0.45, "still_start": true,
            "base_keeps_past": true}, "reference_projection": "denoiser",
            "domain": "toon portraits", "fair_round_trip_db": 20.0}"""
        assert Settings.from_json(json.loads(old)) == Settings(
            128,
            12,
            Sampling(4, 1.5, 1.0, 0.25, 1.0, stacked=False, base_keeps_past=True),
            DiffusionContract(SegmentLayout(mode="near"), 0.45, 0.95, static_history=True),
            domain="toon portraits",
            toons=True,
        )

    @pytest.mark.parametrize(("domain", "toons"), [("toon portraits", True), ("portraits", False)])
    def test_the_warning_before_the_gate_is_left_unread(self, domain, toons):
        old = _json(Settings(domain=domain)) | {"fair_round_trip_db": "much"}
        del old["toons"]
        assert Settings.from_json(old) == Settings(domain=domain, toons=toons)
        assert Settings.from_json(old | {"toons": False}) == Settings(domain=domain)

    def test_of_another_layout_than_the_networks(self, pipe):
        wrong = replace(pipe.settings, contract=DiffusionContract(SegmentLayout(1, 1, 1)))
        with pytest.raises(ConfigurationError, match="slots"):
            LoopyPipeline(pipe.network, pipe.audio_encoder, pipe.vae, pipe.scheduler, wrong)

    @pytest.mark.parametrize(
        "damage",
        [
            {"sampling": None},
            {"size": 3},
            {"sampling": {"audio_ratio": 1, "bass_ratio": 2}},
            {"sampling": {"audio_ratio": float("nan")}},
            {"contract": {"layout": {}, "residual": float("nan")}},
            {"contract": {"layout": {}, "residual": float("inf")}},
            {"rollout": None},
        ],
    )
    def test_nonsense_is_refused(self, damage):
        with pytest.raises(ModelError, match="settings of the model make no sense"):
            Settings.from_json(_json(Settings()) | damage)

    def test_a_schedule_of_two_minds_is_refused(self, pipe):
        pipe.scheduler.register_to_config(rescale_betas_zero_snr=True)
        with pytest.raises(ConfigurationError, match="rescale_betas_zero_snr"):
            LoopyPipeline(pipe.network, pipe.audio_encoder, pipe.vae, pipe.scheduler, pipe.settings)

    def test_nowhere_to_save(self, pipe, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            pipe.save_pretrained(tmp_path / "file" / "model")


def _json(chosen):
    return json.loads(json.dumps(asdict(chosen)))
