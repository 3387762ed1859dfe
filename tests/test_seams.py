"""The places where the library is extended: samplers, conditions, speech encoders, autoencoders.

docs/extending.md is run from top to bottom by tests/test_docs.py; here are the promises beneath.
"""

import json
import math

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from loopy.diffusion import SamplingOptions, sample
from loopy.diffusion.objective import check_schedule
from loopy.errors import ConfigurationError, ModelError, SubjectError
from loopy.models import FrameCondition, SpeechEncoder, decode_latents, encode_images
from loopy.models.folder import save_part
from loopy.models.latents import NO_VARIANCE, encode_posterior, latents_shape
from loopy.pipeline import LoopyPipeline
from loopy.preprocess.landmarks import estimator
from loopy.records import Clip, ConditionMask
from loopy.training.start import start_from

pytestmark = pytest.mark.filterwarnings(  # between diffusers' other schedulers and numpy
    "ignore:__array__ implementation:DeprecationWarning"
)
SD15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SOUND = 0.1 * torch.randn(9_600, generator=torch.Generator().manual_seed(0))
WIDTH = 3


def tiny_vae():
    return AutoencoderTiny(
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()


def damage(path):
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\1\0")


class Energy(SpeechEncoder):
    """Energy of ten milliseconds, and its negative: vectors that can be computed by hand."""

    rate_hz, lookahead_s, layers, width = 100, 0.01, 2, 1

    def __init__(self):
        super().__init__()
        self.spans = []

    def encode(self, audio):
        self.spans.append(len(audio))
        energy = (audio[: len(audio) // 160 * 160].unflatten(0, (-1, 160)) ** 2).mean(1)
        return torch.stack([energy, -energy], 1)[..., None]


class TestSampler:
    @pytest.mark.parametrize(
        "kind",
        [
            DDIMScheduler,
            DPMSolverMultistepScheduler,
            EulerDiscreteScheduler,
            EulerAncestralDiscreteScheduler,
            UniPCMultistepScheduler,
        ],
    )
    def test_the_right_answer_leads_to_the_clean_latents(self, kind):
        """A denoiser that knows the clean latents: whatever the solver, it must arrive there."""
        unclipped = {"clip_sample": False} if kind is DDIMScheduler else {}
        scheduler = kind(**SD15, **unclipped)
        clean, noise = torch.randn(2, 1, 2, 4, 3, 3)

        def predict(x, timestep, progress):
            a = scheduler.alphas_cumprod[timestep.round().long()]
            return (x - a.sqrt() * clean) / (1 - a).sqrt()

        draw = torch.Generator().manual_seed(0)
        latents = sample(scheduler, predict, noise, steps=25, generator=draw)
        assert (latents - clean).square().mean() < 0.01  # the noise had 1

    @pytest.mark.parametrize("kind", [HeunDiscreteScheduler, PNDMScheduler])
    def test_one_that_ignores_a_part_of_its_configuration_is_refused(self, make_pipeline, kind):
        """Zero terminal SNR: their alphas do not reach 0, where the model was trained."""
        zero = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
        trained = DDIMScheduler(
            **SD15, **zero, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=False
        )
        pipe = make_pipeline()
        pipe.scheduler = kind.from_config(trained.config)
        with pytest.raises(ConfigurationError, match=f"{kind.__name__} does not have"):
            pipe(torch.zeros(20, 20, 3, dtype=torch.uint8), SOUND)
        for solver in (
            DPMSolverMultistepScheduler,
            EulerDiscreteScheduler,
            UniPCMultistepScheduler,
        ):
            check_schedule(solver.from_config(trained.config))

    def test_a_scheduler_that_no_folder_holds_leaves_the_model_as_it_was(
        self, make_pipeline, tmp_path
    ):
        pipe = make_pipeline()
        pipe.save_pretrained(tmp_path / "m")
        pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
        with pytest.raises(ModelError, match=r"PNDMScheduler.*scheduler="):
            pipe.save_pretrained(tmp_path / "m")
        LoopyPipeline.from_pretrained(tmp_path / "m")

    def test_a_stochastic_one_is_a_function_of_the_seed(self):
        scheduler, noise = EulerAncestralDiscreteScheduler(**SD15), torch.randn(1, 2, 4, 3, 3)

        def run(seed):
            draw = torch.Generator().manual_seed(seed)
            return sample(scheduler, lambda x, t, p: x, noise, steps=3, generator=draw)

        assert torch.equal(run(0), run(0))
        assert not torch.equal(run(0), run(1))

    def test_a_model_keeps_the_one_it_was_saved_with(self, make_pipeline, tmp_path):
        pipe = make_pipeline()
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        pipe.save_pretrained(tmp_path / "m")
        loaded = LoopyPipeline.from_pretrained(tmp_path / "m")
        assert isinstance(loaded.scheduler, EulerDiscreteScheduler)
        portrait = torch.zeros(20, 20, 3, dtype=torch.uint8)
        assert torch.equal(loaded(portrait, SOUND).frames, pipe(portrait, SOUND).frames)

    @pytest.mark.parametrize(
        "name",
        ["StableDiffusionPipeline", "no Scheduler", 3, None, "CosineDPMSolverMultistepScheduler"],
    )
    def test_a_folder_names_no_other_class(self, make_pipeline, tmp_path, name):
        make_pipeline().save_pretrained(tmp_path / "m")
        path = tmp_path / "m/model_index.json"
        index = json.loads(path.read_text())
        path.write_text(json.dumps(index | {"scheduler": ["diffusers", name]}))
        with pytest.raises(ModelError, match="scheduler"):
            LoopyPipeline.from_pretrained(tmp_path / "m")


class TestCondition:
    @pytest.fixture
    def network(self, make_dual):
        time_dim = make_dual().audio_to_latents.config.time_dim
        return make_dual(conditions={"pose": FrameCondition(width=WIDTH, time_dim=time_dim)})

    @pytest.fixture
    def clip(self, make_clip):
        clip = make_clip()
        return make_clip(conditions={"pose": torch.randn(*clip.latents.shape[:2], WIDTH)})

    def answer(self, network, clip, presence=None):
        times = torch.tensor([20, 981])
        with torch.no_grad():
            return network(clip.latents, times, clip, presence or ConditionMask.all(len(clip)))

    def test_it_is_silent_at_birth_and_heard_when_it_has_learned(
        self, network, clip, make_clip, awaken
    ):
        assert torch.equal(self.answer(network, clip), self.answer(network, make_clip()))
        awaken(network)
        assert not torch.equal(self.answer(network, clip), self.answer(network, make_clip()))

    def test_each_of_its_weights_learns(self, network, clip, awaken):
        awaken(network)
        out = network(clip.latents, torch.tensor([20, 981]), clip, ConditionMask.all(2))
        out.square().sum().backward()
        assert all(p.grad.any() for p in network.conditions.parameters())

    def test_nan_and_a_dropped_one_add_nothing(self, network, clip, make_clip, awaken):
        awaken(network)
        without = self.answer(network, make_clip())
        gone = make_clip(conditions={"pose": torch.full_like(clip.conditions["pose"], torch.nan)})
        assert torch.equal(self.answer(network, gone), without)
        mask = ConditionMask.all(2)
        mask = ConditionMask(mask.audio, ~mask.motion_latents, mask.reference, mask.past)
        dropped = self.answer(network, clip, mask)
        assert torch.equal(dropped, self.answer(network, make_clip(), mask))

    def test_a_batch_carries_it(self, clip):
        both = Clip.cat([clip, clip])
        assert torch.equal(both.rows(slice(2, 4)).conditions["pose"], clip.conditions["pose"])
        assert both.to("meta").conditions["pose"].is_meta

    def test_an_unknown_name_and_a_wrong_width(self, network, make_clip, make_dual):
        with pytest.raises(ConfigurationError, match=r"no condition \['mood'\].*pose"):
            self.answer(network, make_clip(conditions={"mood": torch.zeros(2, 3, 1)}))
        with pytest.raises(ConfigurationError, match="time_dim of pose"):
            make_dual(conditions={"pose": FrameCondition(width=1, time_dim=7)})

    def test_a_stage_takes_it_from_a_folder(self, make_dual, network, tmp_path, awaken):
        save_part(network.conditions["pose"], tmp_path, "condition_pose")
        for part in ("reference_net", "denoiser"):
            save_part(getattr(network, part), tmp_path, part)
        time_dim = network.audio_to_latents.config.time_dim
        other = make_dual(conditions={"pose": FrameCondition(width=WIDTH, time_dim=time_dim)})
        reports = start_from(other, [tmp_path])
        assert len(reports["condition_pose"].loaded) == 4
        ours, theirs = (n.conditions["pose"].proj1.weight for n in (network, other))
        assert torch.equal(ours, theirs)

    def test_a_video_follows_it_and_a_folder_keeps_it(self, make_pipeline, network, tmp_path):
        pipe = make_pipeline(sampling={"steps": 2})
        pipe.network.conditions.update(network.conditions)
        torch.nn.init.normal_(pipe.network.conditions["pose"].proj2.weight)
        pipe.save_pretrained(tmp_path / "m")
        pipe = LoopyPipeline.from_pretrained(tmp_path / "m")
        portrait = torch.zeros(20, 20, 3, dtype=torch.uint8)
        poses = torch.randn(15, WIDTH)
        plain = pipe(portrait, SOUND).frames
        posed = pipe(portrait, SOUND, conditions={"pose": poses}).frames
        assert not torch.equal(plain, posed)
        first = pipe.settings.clip_frames  # later frames see the first ones: compare the first clip
        short = pipe(portrait, SOUND, conditions={"pose": poses[:first]}).frames
        assert torch.equal(short[:first], posed[:first])
        damage(tmp_path / "m/condition_pose/diffusion_pytorch_model.safetensors")
        with pytest.raises(ModelError, match=r"condition_pose.*damaged"):
            LoopyPipeline.from_pretrained(tmp_path / "m")
        nothing = pipe(portrait, SOUND, conditions={"pose": torch.full((15, WIDTH), torch.nan)})
        assert torch.equal(nothing.frames, plain)


class TestSpeechEncoder:
    def test_the_vectors_of_a_frame_are_averaged(self):
        features = Energy().features(SOUND)
        normal = (SOUND - SOUND.mean()) / SOUND.var(correction=0).sqrt()
        expected = (normal.unflatten(0, (-1, 640)) ** 2).mean(1)
        torch.testing.assert_close(features[:, 0, 0], expected)
        assert torch.equal(features[:, 1], -features[:, 0])

    def test_a_short_lookahead_reads_less_of_what_comes(self):
        encoder = Energy()
        list(encoder.stream(torch.randn(16_000 * 40)))
        assert encoder.spans == [16_000 * 30 + 640, 16_000 * 12]  # a frame after; 2 s before
        assert math.isinf(LoopyPipeline.from_pretrained("toon").audio_encoder.lookahead_s)

    def test_a_pipeline_takes_it_and_a_folder_does_not(self, make_pipeline, tmp_path):
        pipe = make_pipeline()
        pipe.audio_encoder = Energy()
        pipe.save_pretrained(tmp_path / "m")
        with pytest.raises(ModelError, match=r"no audio encoder.*audio_encoder="):
            LoopyPipeline.from_pretrained(tmp_path / "m")
        loaded = LoopyPipeline.from_pretrained(tmp_path / "m", audio_encoder=Energy())
        assert isinstance(loaded.audio_encoder, Energy)


class TestAutoencoder:
    def test_the_tiny_one_has_latents_without_a_posterior(self):
        vae, images = tiny_vae(), torch.rand(2, 3, 16, 16) * 2 - 1
        with torch.no_grad():
            own = vae.encode(images).latents
        assert torch.equal(encode_images(vae, images), own)
        assert own.shape[1:] == latents_shape(vae, 16)
        assert (encode_posterior(vae, images)[1] == NO_VARIANCE).all()
        assert decode_latents(vae, own).shape == images.shape

    def test_a_subject_of_another_one_is_refused(self, make_pipeline):
        pipe = make_pipeline()
        subject = pipe.prepare(torch.zeros(20, 20, 3, dtype=torch.uint8))
        pipe.vae = tiny_vae()
        with pytest.raises(SubjectError):
            next(pipe.stream(subject, SOUND))

    def test_a_model_may_have_it(self, make_pipeline, tmp_path):
        pipe = make_pipeline()
        pipe.vae = tiny_vae()
        pipe.save_pretrained(tmp_path / "m")
        loaded = LoopyPipeline.from_pretrained(tmp_path / "m")
        assert isinstance(loaded.vae, AutoencoderTiny)
        portrait = torch.randint(0, 256, (20, 20, 3), dtype=torch.uint8)
        options = SamplingOptions(steps=1)
        video = loaded(portrait, SOUND, options=options)
        assert torch.equal(video.frames, pipe(portrait, SOUND, options=options).frames)


class Nowhere:
    """A landmark estimator of a user."""

    def __call__(self, frames):
        raise NotImplementedError


class TestLandmarkEstimator:
    def test_a_class_is_named_by_its_path(self):
        assert isinstance(estimator("tests.test_seams.Nowhere"), Nowhere)

    @pytest.mark.parametrize("name", ["nobody", "tests.test_seams.nobody", "no.such", "math.pi"])
    def test_what_is_no_class(self, name):
        with pytest.raises(ConfigurationError, match="landmark estimator"):
            estimator(name)
