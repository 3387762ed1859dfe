"""What a stage trains on, starts from, and makes of it."""

import shutil
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

from loopy.diffusion.options import DiffusionContract
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError, ModelError
from loopy.models.weights import ADDED
from loopy.pipeline import LoopyPipeline
from loopy.segments import SegmentLayout
from loopy.training.datamodule import LoopyDataModule
from loopy.training.dropout import ConditionDropout
from loopy.training.loss_plot import LossPlot, read_rows
from loopy.training.module import LoopyModule
from loopy.training.stages import ClipStage, ImageStage
from loopy.training.start import FrozenParts
from loopy.training.store_clips import StoreClips

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists"),
    # steps are also taken without a trainer, to look at one
    pytest.mark.filterwarnings("ignore:You are trying to `self.log"),
]

NEVER = ConditionDropout(audio=0, reference=0, past=0)
STEPS, CHECKPOINT, KILL = 6, 4, 5


class RandomClips(LoopyDataModule):
    """Clips of nothing but noise; ``same``: always the same ones."""

    def __init__(self, make_clip, *, batch_size=2, same=False):
        super().__init__(batch_size=batch_size, validation_batches=1)
        self.make_clip, self.same = make_clip, same

    def make(self, generator):
        seed = 0 if self.same else generator.initial_seed() % 2**31
        return self.make_clip(self.batch_size, seed=seed)


def frozen(pipeline):
    return FrozenParts(pipeline.vae, pipeline.audio_encoder)


class Kill(pl.Callback):
    """Stops the process' work in the middle of a step, as a power cut would."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == KILL:
            raise ConnectionAbortedError


def trainer(folder, *callbacks, steps=STEPS, precision="32-true"):
    return pl.Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=steps,
        default_root_dir=folder,
        limit_val_batches=0.0,
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )


def judge():
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )


class TestImageStage:
    def test_picked_frames_keep_their_own_sound_points_and_weight(self, make_stage, make_clip):
        number = torch.arange(12.0)
        clip = make_clip(
            2,
            latents=number[None, :, None, None, None].expand(2, 12, 4, 8, 8),
            audio=number[None, :, None, None, None].expand(2, 12, 5, 3, 8),
            landmarks=number[None, :, None].expand(2, 12, 204),
            weight=number[None, :, None, None, None].expand(2, 12, 1, 8, 8),
        )
        stage = make_stage(ImageStage, targets=5)
        dice = [torch.Generator().manual_seed(i) for i in range(2)]
        picked = stage.select(clip, dice)
        frames = picked.latents[:, :, 0, 0, 0]
        assert picked.latents.shape == (2, 5, 4, 8, 8)
        assert [len(set(row)) for row in frames.tolist()] == [5, 5]
        assert not torch.equal(frames[0], frames[1])
        assert torch.equal(picked.audio[:, :, 0, 0, 0], frames)
        assert torch.equal(picked.landmarks[:, :, 0], frames)
        assert torch.equal(picked.weight[:, :, 0, 0, 0], frames)
        assert picked.reference is clip.reference

    def test_the_kind_of_network_is_checked(self, make_dual, schedule):
        with pytest.raises(ConfigurationError, match="no temporal layers"):
            ImageStage(make_dual(), schedule, Settings())
        with pytest.raises(ConfigurationError, match="needs temporal layers"):
            ClipStage(make_dual(shape={"clip_frames": None}), schedule, Settings())


class TestClipStage:
    @pytest.fixture
    def image_model(self, make_stage, make_pipeline, tmp_path):
        """Exports an image stage; ``silent`` is the paper's, without sound."""

        def export(*, silent=False, **shape):
            stage = make_stage(ImageStage, shape=shape)
            if silent:
                stage.network.audio_projection = None
                stage.network.audio_to_latents = None
            stage.frozen = frozen(make_pipeline())
            stage.export(tmp_path / "image")
            return tmp_path / "image"

        return export

    @pytest.mark.parametrize("silent", [False, True])
    def test_it_starts_from_the_image_stage(
        self, image_model, make_stage, make_clip, tmp_path, silent
    ):
        shape = {"audio_dim": None} if silent else {}
        folder = image_model(silent=silent, **shape)
        stage = make_stage(init_from=folder, learning_rate=0.0)
        trainer(tmp_path, steps=1).fit(stage, datamodule=RandomClips(make_clip))
        for part in ("reference_net", "denoiser"):
            state = getattr(stage.network, part).state_dict()
            stored = load_file(folder / part / "diffusion_pytorch_model.safetensors")
            for name, value in stored.items():
                assert torch.equal(state[name], value.float())
            fresh = {name for name in state if name not in stored}
            new = (*ADDED, ".norm2.") if silent else ADDED[1:3]
            assert all(any(part in name for part in new) for name in fresh)
            assert fresh or part == "reference_net"

    def test_a_second_run_goes_on_from_the_first(
        self, image_model, make_stage, make_clip, tmp_path, capsys
    ):
        data, folder = RandomClips(make_clip), image_model()
        stage = make_stage(init_from=[folder], learning_rate=1e-2)
        trainer(tmp_path, steps=1).fit(stage, datamodule=data)
        assert "denoiser" in capsys.readouterr().out
        trained = {name: value.clone() for name, value in stage.state_dict().items()}
        shutil.rmtree(folder)
        judge().validate(stage, datamodule=data, verbose=False)
        assert all(torch.equal(v, trained[name]) for name, v in stage.state_dict().items())

    def test_a_folder_that_is_not_there_ends_it_before_the_first_step(
        self, make_stage, make_clip, tmp_path
    ):
        stage = make_stage(init_from=tmp_path / "nowhere")
        with pytest.raises(ModelError, match="export the image stage first"):
            trainer(tmp_path, steps=1).fit(stage, datamodule=RandomClips(make_clip))

    def test_data_that_do_not_say_what_they_are_for_are_named(
        self, make_stage, make_clip, tmp_path, capsys
    ):
        data = RandomClips(make_clip)
        data.clip_frames = data.size_px = None
        with pytest.raises(
            ConfigurationError, match="clip_frames: the model says 3, the data None"
        ):
            trainer(tmp_path, steps=1).fit(make_stage(), datamodule=data)
        answer = capsys.readouterr().out
        assert "RandomClips has no layout, static_history, drops, so that nothing" in answer

    def test_a_step_in_bfloat16_has_noise_at_the_first_timesteps(
        self, make_stage, make_clip, schedule, tmp_path
    ):
        """1 - a, taken in bfloat16, would be 0 there."""
        stage, data, calls = make_stage(timestep_power=1e3), RandomClips(make_clip, same=True), []
        stage.network.register_forward_hook(lambda _, given, answer: calls.append((*given, answer)))
        run = trainer(tmp_path, steps=1, precision="bf16-true")
        run.fit(stage, datamodule=data)
        [(noisy, timestep, clip, _, prediction)] = calls
        assert not timestep.any()
        assert noisy.dtype == prediction.dtype == torch.bfloat16
        assert run.callback_metrics["loss"].isfinite()
        deviation = float((1 - schedule.alphas_cumprod[0]).sqrt())
        assert float((noisy - clip.latents).float().std()) == pytest.approx(deviation, rel=0.1)

    def test_only_what_was_added_is_trained_on_request(self, make_stage, make_clip, tmp_path):
        stage = make_stage(trained="added", learning_rate=1e-2, drops=NEVER)
        before = {name: p.detach().clone() for name, p in stage.named_parameters()}
        trainer(tmp_path, steps=2).fit(stage, datamodule=RandomClips(make_clip))
        changed = {name for name, p in stage.named_parameters() if not torch.equal(p, before[name])}
        kinds = ("audio_projection", "audio_to_latents", "audio_attn", "inter_clip", "intra_clip")
        added = {name for name in before if any(f".{kind}." in name for kind in kinds)}
        assert changed <= added
        assert all(any(kind in name for name in changed) for kind in kinds)
        assert {name for name, p in stage.named_parameters() if p.requires_grad} == added


def test_slopes_are_among_what_was_added(make_stage):
    stage = make_stage(trained="added", shape={"locality": 1.0})
    slopes = {name for name, p in stage.named_parameters() if name.endswith(".slopes")}
    assert any(name.startswith("network.denoiser.") for name in slopes)
    plain = dict(make_stage(shape={"locality": 1.0}).named_parameters())
    assert all(
        p.requires_grad == plain[name].requires_grad
        for name, p in stage.named_parameters()
        if name in slopes
    )


@pytest.mark.parametrize("scale", [None, (1.5, 2.5)])
def test_a_scale_of_motion_that_is_not_the_stores_is_said(
    make_stage, make_store, tmp_path, capsys, scale
):
    store = make_store(tmp_path / "store", [str(number) for number in range(8)])
    layout = SegmentLayout(stride=2, segments=2)
    contract = DiffusionContract(layout=layout)
    stage = make_stage(settings=Settings(size_px=16, clip_frames=3, contract=contract))
    if scale:
        stage.network.audio_to_latents.register_to_config(log_mean=scale)
    data = StoreClips(store=str(store), layout=layout, clip_frames=3, batch_size=2)
    data.workers = 0
    trainer(tmp_path, steps=1).fit(stage, datamodule=data)
    assert ("put in what loopy data report prints" in capsys.readouterr().out) is (scale is None)


@pytest.mark.parametrize(
    ("kind", "options", "frozen"),
    [
        (ImageStage, {}, "behind the last tokens"),
        (ClipStage, {}, "behind the last tokens"),
        (ClipStage, {"motion_gradient": True}, "nothing"),
        (ClipStage, {"trained": "added"}, "both UNets"),
    ],
)
def test_what_each_preset_trains(make_dual, awaken, schedule, make_clip, kind, options, frozen):
    """What is trained has a gradient, and all else is out of the optimiser and of the graph."""
    shape = {"clip_frames": None} if kind is ImageStage else None
    gradient = options.get("motion_gradient", False)
    network = awaken(make_dual(shape=shape, motion_gradient=gradient))
    more = {key: value for key, value in options.items() if key == "trained"}
    stage = kind(network, schedule, Settings(size_px=16, clip_frames=3), drops=NEVER, **more)
    for step in range(4):  # audio-to-latents hears one of four conditions in each sample
        stage.training_step(make_clip(4), step).backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in network.named_parameters() if p.requires_grad}
    reference = {name for name in reached if name.startswith("reference_net.")}
    portrait = network.encode_reference(make_clip().reference).values()
    sites = len(list(network.reference_net.named_parameters()))
    assert {
        "nothing": len(reference) == sites,
        "behind the last tokens": 0 < len(reference) < sites,
        "both UNets": not reference and not any(each.key.requires_grad for each in portrait),
    }[frozen]


@pytest.mark.parametrize("options", [{}, {"motion_gradient": True}])
def test_checkpointing_changes_memory_not_gradients(
    make_dual, awaken, schedule, make_clip, options
):
    def step(**more):
        torch.manual_seed(0)
        network = awaken(make_dual(**options))
        stage = ClipStage(network, schedule, Settings(size_px=16, clip_frames=3), **more)
        kept = []

        def pack(tensor):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = stage.training_step(make_clip(), 0)
        loss.backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        return loss.detach(), gradients, sum(kept)

    loss, gradients, kept = step()
    same_loss, same_gradients, kept_now = step(gradient_checkpointing=True)
    assert torch.equal(loss, same_loss)
    for ours, theirs in zip(gradients, same_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert kept_now < kept / 4


def test_killed_and_resumed_is_not_killed(make_stage, make_clip, tmp_path):
    def run(folder, *more, seed=0, resume=None):
        stage = make_stage(learning_rate=1e-3, warmup_steps=2, cosine=True)
        if seed:  # other weights at first: all must come from the checkpoint
            torch.nn.init.normal_(stage.network.denoiser.conv_in.weight)
        callbacks = (LossPlot(every=1), ModelCheckpoint(every_n_train_steps=2, save_last=True))
        trainer(folder, *callbacks, *more).fit(
            stage, datamodule=RandomClips(make_clip), ckpt_path=resume
        )
        return stage

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = run(whole)
    with pytest.raises(ConnectionAbortedError):
        run(killed, Kill())
    last = killed / "checkpoints" / "last.ckpt"
    assert torch.load(last)["global_step"] == CHECKPOINT
    resumed = run(killed, seed=1, resume=last)
    losses = read_rows(whole / "losses.csv")
    assert losses == read_rows(killed / "losses.csv")
    assert [step for step, name, _ in losses if name == "loss"] == list(range(1, STEPS + 1))
    for ours, theirs in zip(finished.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_learns(make_stage, make_clip, tmp_path):
    """A few seconds bring the loss on two clips below two thirds of what it was at birth."""
    stage = make_stage(learning_rate=5e-3, drops=NEVER)
    data = RandomClips(make_clip, batch_size=4, same=True)
    [before] = judge().validate(stage, datamodule=data, verbose=False)
    trainer(tmp_path, steps=25).fit(stage, datamodule=data)
    [after] = judge().validate(stage, datamodule=data, verbose=False)
    assert after["val/loss"] < 0.66 * before["val/loss"]


class TestValidation:
    def test_it_says_how_much_sound_past_and_reference_matter(self, make_stage, make_clip):
        data = RandomClips(make_clip, batch_size=3)
        [clip] = RandomClips(make_clip, batch_size=3).held_out()
        first, again = (
            judge().validate(make_stage(), datamodule=data, verbose=False)[0] for _ in range(2)
        )
        assert first == again
        names = {f"val/{name}_sensitivity" for name in ("audio", "past", "reference")}
        assert set(first) == {"val/loss", *names}
        assert all(abs(first[name]) > 1e-6 for name in names)
        # where everybody has the same sound, another's is no worse
        same = replace(clip, audio=clip.audio[:1].expand_as(clip.audio))
        data.make = lambda generator: same
        [result] = judge().validate(make_stage(), datamodule=data, verbose=False)
        assert result["val/audio_sensitivity"] == 0
        assert abs(result["val/past_sensitivity"]) > 1e-6

    def test_images_have_no_past(self, make_stage, make_clip):
        stage = make_stage(ImageStage, targets=2)
        [result] = judge().validate(stage, datamodule=RandomClips(make_clip), verbose=False)
        assert "val/past_sensitivity" not in result
        assert abs(result["val/reference_sensitivity"]) > 1e-6

    def test_a_portrait_that_is_not_seen_does_not_matter(self, make_stage, make_clip):
        """Though it is what the clip is diffused against."""
        contract = DiffusionContract(residual=0.5)
        settings = Settings(size_px=16, clip_frames=3, contract=contract)
        found = {}
        for deaf in (True, False):
            stage = make_stage(settings=settings)
            if deaf:
                for name, parameter in stage.network.named_parameters():
                    if name.startswith("reference_net."):
                        parameter.data.zero_()
            data = RandomClips(make_clip, batch_size=3)
            [result] = judge().validate(stage, datamodule=data, verbose=False)
            found[deaf] = result["val/reference_sensitivity"]
        assert found[True] == pytest.approx(0, abs=1e-6)
        assert abs(found[False]) > 1e-6


def test_the_exported_model_makes_the_same_video(make_pipeline, schedule, tmp_path, desk):
    parts = make_pipeline()
    stage = LoopyModule(parts.network, schedule, parts.settings).eval()
    stage.frozen = frozen(parts)
    own = stage.pipeline()
    before = own("portrait.png", "speech.wav").frames
    stage.export(tmp_path / "model")
    exported = LoopyPipeline.from_pretrained(tmp_path / "model")
    assert exported.settings == parts.settings
    after = exported("portrait.png", "speech.wav").frames
    for part in (stage.network, parts.audio_encoder, parts.vae):
        part.half().float()  # the rounding of the file
    assert torch.equal(own("portrait.png", "speech.wav").frames, after)
    assert (before.float() - after.float()).abs().mean() < 2  # of 255: half precision
