"""A student of few steps and one run learns where a teacher's steps lead."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from lightning.pytorch.callbacks import ModelCheckpoint

from loopy.diffusion.objective import add_noise, ddim_step, one_step_target, target
from loopy.diffusion.options import DiffusionContract, RolloutState, SamplingOptions
from loopy.diffusion.rollout import next_clip
from loopy.errors import ConfigurationError
from loopy.models import FrameCondition
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator
from loopy.records import ConditionMask
from loopy.training.distillation.few_steps import FewSteps
from loopy.training.distillation.stage import DistillationStage
from loopy.training.distillation.teacher import Teacher, with_ratios
from loopy.training.module import Draws
from loopy.training.self_history import own_motion_frames
from loopy.training.start import start_from
from tests.training.test_stages import NEVER, RandomClips, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    pytest.mark.filterwarnings("ignore:You are trying to `self.log"),
]
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.fixture
def schedule():
    """As the toon model's: velocity, no signal at the last timestep."""
    return DDIMScheduler(
        **BETAS,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


@pytest.fixture
def make_teacher(make_pipeline, schedule, tmp_path):
    """Saves a teacher of 4 steps; returns its folder."""

    def make(*, conditions=None, **sampling):
        ratios = {"steps": 4, "audio_ratio": 1.0, "reference_ratio": 1.0}
        pipe = make_pipeline(sampling=ratios | sampling, contract={"residual": 0.5})
        pipe.scheduler = schedule
        if conditions:
            pipe.network.conditions.update(conditions)
            contract = replace(pipe.settings.contract, guidance_input=True)
            pipe.settings = replace(pipe.settings, contract=contract)
        pipe.save_pretrained(tmp_path / "teacher")
        return tmp_path / "teacher"

    return make


@pytest.fixture
def make_student(make_dual, schedule, make_pipeline):
    """A stage around a student of 2 steps of a teacher's folder."""

    def make(folder, *, steps=2, guidance_input=False, ratios=(1.0, 1.0), **options):
        settings = make_pipeline(contract={"residual": 0.5}).settings
        sampling = replace(
            settings.sampling, steps=steps, audio_ratio=ratios[0], reference_ratio=ratios[1]
        )
        contract = replace(settings.contract, guidance_input=guidance_input)
        settings = replace(settings, sampling=sampling, contract=contract)
        torch.manual_seed(1)
        network = make_dual(conditions=guidance() if guidance_input else None)
        return DistillationStage(network, schedule, settings, teacher=folder, **options)

    return make


def guidance():
    torch.manual_seed(2)
    return {"guidance": FrameCondition(width=2, time_dim=64, hidden=8)}


def draws(count=2):
    return Draws((0, "test"), first=0, count=count)


def started(stage):
    """The stage with what a run puts in before the first step."""
    start_from(stage.network, stage.init_from)
    return stage.eval()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("step", [0, 1])
def test_one_step_to_the_target_is_the_steps_of_the_teacher(kind, step):
    """Algorithm 2, by diffusers' own DDIM on both sides."""
    scheduler = DDIMScheduler(
        **BETAS,
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=kind,
        rescale_betas_zero_snr=kind == "v_prediction",
        timestep_spacing="trailing",
    )
    noisy = torch.randn(1, 3, 4, 8, 8, dtype=torch.double)
    answers = torch.randn(2, *noisy.shape, dtype=torch.double)
    scheduler.set_timesteps(4)
    after = noisy
    for answer, timestep in zip(answers, scheduler.timesteps[2 * step :][:2], strict=True):
        after = scheduler.step(answer, timestep, after).prev_sample
    steps = FewSteps(scheduler, 2)
    timestep = steps.timesteps[step : step + 1]
    wanted = one_step_target(noisy, after, timestep, timestep - steps.stride, steps.alphas)
    made = ddim_step(noisy, wanted, timestep, timestep - steps.stride, steps.alphas)
    torch.testing.assert_close(made, after, atol=1e-5, rtol=1e-5)
    a = steps.alphas[timestep].double()[:, None, None, None, None]
    noise = (noisy - a.sqrt() * wanted) / (1 - a).sqrt()
    answer = target(wanted, noise, timestep, steps.alphas, prediction_type=kind)
    scheduler.set_timesteps(2)
    assert scheduler.timesteps.tolist() == steps.timesteps.tolist()
    arrived = scheduler.step(answer, timestep[0], noisy).prev_sample
    torch.testing.assert_close(arrived, after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"audio_ratio": 3.0, "reference_ratio": 2.0},
        {"audio_ratio": 3.0, "reference_ratio": 2.0, "guidance_start": 0.3, "guidance_stop": 0.8},
        {"audio_ratio": 3.0, "reference_ratio": 2.0, "guidance_every": 2},
        {"audio_ratio": 3.0, "reference_ratio": 2.0, "guidance_input": True},
    ],
)
def test_the_whole_walk_is_a_clip_of_inference(make_teacher, make_clip, schedule, sampling):
    """Branches, their interval or the ratios as an input: all as `next_clip` does it."""
    given = guidance() if sampling.pop("guidance_input", False) else None
    if given:
        torch.nn.init.normal_(given["guidance"].proj2.weight)
    teacher = Teacher(make_teacher(conditions=given, **sampling), schedule)
    clip = make_clip(1, past_present=torch.zeros(1, 4, dtype=torch.bool))
    contract, network = teacher.settings.contract, teacher.network
    latents, _ = next_clip(
        network,
        schedule,
        reference=network.encode_reference(clip.reference),
        portrait=clip.reference,
        audio=clip.audio,
        state=RolloutState(clip.latents[:, :0], seed=3),
        size=(4, 8, 8),
        contract=contract,
        sampling=teacher.settings.sampling,
    )
    drawn = contract.noise((1, 3, 4, 8, 8), generator(3, "clip", 0))
    timestep = teacher.steps.timesteps[:1]
    ratios = teacher.ratios[None]
    everything = ConditionMask.all(1)
    after = teacher.walk(drawn, timestep, clip, everything, moves=4, ratios=ratios)
    made = contract.from_residual(after, clip.reference)
    torch.testing.assert_close(made, latents, atol=1e-4, rtol=1e-4)


def test_each_sample_is_guided_by_its_own_ratios_at_its_own_step(make_teacher, make_clip, schedule):
    folder = make_teacher(audio_ratio=3.0, reference_ratio=2.0, guidance_stop=0.5)
    teacher, clip = Teacher(folder, schedule), make_clip(3)
    noisy, mask = torch.randn(3, 3, 4, 8, 8), ConditionMask.all(3)
    ratios = torch.tensor([[1.0, 1.0], [4.0, 2.0], [3.0, 3.0]])
    timestep = teacher.steps.timesteps[[0, 1, 2]]
    together = teacher.walk(noisy, timestep, clip, mask, moves=2, ratios=ratios)
    for i in range(3):
        one = slice(i, i + 1)
        alone = teacher.walk(
            noisy[one],
            timestep[one],
            clip.rows(one),
            ConditionMask.all(1),
            moves=2,
            ratios=ratios[one],
        )
        torch.testing.assert_close(alone, together[one], atol=1e-5, rtol=1e-4)


def test_a_student_that_answers_as_the_teacher_walks_has_no_loss(
    make_teacher, make_student, make_clip
):
    """With as many steps as its unguided teacher, whose weights it has at first."""
    same = started(make_student(make_teacher(), steps=4))
    fewer = started(make_student(make_teacher(), steps=1))
    clip, mask = make_clip(2), ConditionMask.all(2)
    assert same.losses(clip, clip, mask, draws())[0].max() < 1e-8
    losses, timestep = fewer.losses(clip, clip, mask, draws())
    assert timestep.tolist() == [999, 999]
    assert losses.min() > 1e-4


def test_it_learns_and_the_teacher_stays(make_teacher, make_student, make_clip, tmp_path):
    folder = make_teacher(steps=2, audio_ratio=2.0, reference_ratio=1.5)
    stage = make_student(folder, steps=1, learning_rate=3e-3, drops=NEVER)
    data = RandomClips(make_clip, batch_size=2, same=True)
    network = stage.teacher.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clip, mask = make_clip(2), ConditionMask.all(2)
    first = started(stage).losses(clip, clip, mask, draws())[0].mean()
    keeps = ModelCheckpoint(every_n_train_steps=15, save_last=True)
    trainer(tmp_path, keeps, steps=15).fit(stage.train(), datamodule=data)
    assert stage.losses(clip, clip, mask, draws())[0].mean() < 0.6 * first
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    weights = torch.load(tmp_path / "checkpoints/last.ckpt")["state_dict"]
    assert all(name.startswith("network.") for name in weights)
    assert len(weights) == len(stage.network.state_dict())


def test_a_run_goes_on_where_it_stopped(make_teacher, make_student, make_clip, tmp_path):
    folder = make_teacher()

    def run(place, steps, resume=None):
        stage = make_student(folder, learning_rate=1e-3, self_generated_history=0.5)
        keeps = ModelCheckpoint(every_n_train_steps=2, save_last=True)
        trainer(place, keeps, steps=steps).fit(
            stage, datamodule=RandomClips(make_clip), ckpt_path=resume
        )
        return stage

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "cut", 2)
    again = run(tmp_path / "cut", 4, tmp_path / "cut/checkpoints/last.ckpt")
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_ratios_are_an_input_that_is_saved(make_teacher, make_student, make_clip, tmp_path, desk):
    folder = make_teacher(audio_ratio=3.0, reference_ratio=2.0)
    stage = make_student(folder, guidance_input=True, ratios=(3.0, 2.0), learning_rate=1e-2)
    trainer(tmp_path, steps=2).fit(stage, datamodule=RandomClips(make_clip))
    assert stage.ratios(draws()).min() >= 1
    assert len(stage.ratios(draws(8)).unique()) == 16
    stage.eval().export(tmp_path / "student", dtype=torch.float32)
    pipe = LoopyPipeline.from_pretrained(tmp_path / "student")
    assert pipe.settings == stage.settings
    assert pipe.settings.sampling.steps == 2
    clip, timestep = make_clip(2), torch.tensor([999, 499])
    answers = [
        pipe.network(clip.latents, timestep, given, ConditionMask.all(2))
        for given in (
            clip,
            with_ratios(clip, torch.ones(2, 2)),
            with_ratios(clip, stage.ratios(draws())),
        )
    ]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])
    calls = []
    pipe.network.denoiser.register_forward_hook(lambda *_: calls.append(1))
    frames = pipe("portrait.png", "speech.wav").frames
    assert len(calls) == 2 * 3  # 8 frames are three clips: one run a step, in place of three
    other = pipe("portrait.png", "speech.wav", options=SamplingOptions(audio_ratio=8.0)).frames
    assert not torch.equal(frames, other)
    # and such a model teaches one of fewer steps
    next_stage = started(make_student(tmp_path / "student", steps=1, guidance_input=True))
    mask = ConditionMask.all(2)
    assert next_stage.losses(clip, clip, mask, draws())[0].isfinite().all()


def test_the_past_is_drawn_by_the_students_own_steps(make_teacher, make_student, make_clip):
    clip = make_clip(2)

    def calls(stage, network):
        seen = []
        handle = network.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
        stage.own_past(clip, [torch.Generator().manual_seed(i) for i in range(2)])
        handle.remove()
        return {int(timestep) for each in seen for timestep in each}

    two = started(make_student(make_teacher(), steps=2))
    one = started(make_student(make_teacher(), steps=1))
    assert calls(two, two.network) == {499}
    assert calls(one, one.network) == set()
    assert calls(one, one.teacher.network) == {749, 499, 249}


def test_frames_that_are_known_come_back_whatever_the_step(make_dual, awaken, schedule, make_clip):
    """A denoiser that answers the velocity of one clean picture leads every start there."""
    clip, steps = make_clip(2), FewSteps(schedule, 4)
    contract, network = DiffusionContract(), make_dual()
    clean = clip.motion_frames[:, :3]
    clip = replace(clip, motion_frames=clean, past_present=torch.ones(2, 3, dtype=torch.bool))

    class Oracle(torch.nn.Module):
        config = network.denoiser.config
        sites = network.denoiser.sites

        def forward(self, noisy, timestep, contexts, *, portrait):
            a = steps.alphas[timestep][:, None, None, None, None]
            noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
            return target(clean, noise, timestep, steps.alphas, prediction_type="v_prediction")

    network.denoiser = Oracle()
    network.null_past = dict
    network.encode_reference = lambda portrait: {}
    samples = [torch.Generator().manual_seed(i) for i in range(2)]
    own = own_motion_frames(network, schedule, clip, contract, samples, steps=steps)
    # the last step leads to the end of the schedule, where a little noise is left
    assert (own - clean).std() < 2 * float((1 - steps.alphas[-1]).sqrt())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 3}, "do not divide"),
        ({"steps": 2, "teacher_steps": 5}, "no multiple"),
        ({"ratios": (5.0, 3.0)}, "has learned its guidance"),
    ],
)
def test_what_cannot_be_distilled_is_said(make_teacher, make_student, changes, said):
    with pytest.raises(ConfigurationError, match=said):
        _ = make_student(make_teacher(), **changes).teacher


def test_a_student_of_another_schedule_or_contract_is_refused(make_teacher, make_student, schedule):
    folder = make_teacher()
    stage = make_student(folder)
    stage.settings = replace(
        stage.settings, contract=replace(stage.settings.contract, residual=1.0)
    )
    with pytest.raises(ConfigurationError, match="contract: the student says"):
        _ = stage.teacher
    other = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    with pytest.raises(ConfigurationError, match="another noise schedule"):
        Teacher(folder, other)
    with pytest.raises(ConfigurationError, match="timestep_spacing"):
        FewSteps(DDIMScheduler(**BETAS, clip_sample=False), 2)


def test_noise_is_undone_by_the_state_it_came_from(schedule):
    """`ddim_step` with the true x_0 stays on the path of one noise."""
    steps = FewSteps(schedule, 4)
    clean, noise = torch.randn(2, 4, 3, 4, 8, 8).unbind()
    timestep = steps.timesteps
    noisy = add_noise(clean, noise, timestep, steps.alphas)
    made = ddim_step(noisy, clean, timestep, timestep - steps.stride, steps.alphas)
    wanted = add_noise(clean, noise, timestep - steps.stride, steps.alphas)
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)
