"""Two devices, by DDP and by FSDP2, train what one device trains on the joined batch."""

from itertools import product

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from loopy.models import CONDITIONS
from loopy.records import ConditionMask
from loopy.training.checkpoint_files import last_checkpoint
from loopy.training.sharding import shard
from loopy.training.stages import ClipStage, ImageStage
from tests.training.ranks import furthest, losses, start_ranks, weights

MODEL = {"self_generated_history": 0.5, "motion_noise": 0.1}


def test_two_devices_train_what_one_does(runs, tmp_path):
    """With gradients clipped, motion frames drawn again, and averages."""
    options = {"model": MODEL, "max_steps": 3, "val_check_interval": 3}
    one, ddp, fsdp2 = (
        runs.train(tmp_path / name, name, **options) for name in ("one", "ddp", "fsdp2")
    )
    assert last_checkpoint(ddp).is_file()
    assert last_checkpoint(fsdp2).is_dir()
    assert len(losses(one)) == 3
    for two in (ddp, fsdp2):
        assert losses(two) == pytest.approx(losses(one), rel=1e-5)
        assert furthest(one, two) < 0.01


def test_whatever_a_sample_sees_every_weight_has_a_gradient(make_dual, make_clip, awaken):
    """One clip a device: a rank that skipped a weight would leave the others waiting for it."""
    network = awaken(make_dual())
    clip = make_clip(1)
    trained = {id(parameter) for parameter in network.trainable_parameters()}
    for number, seen in enumerate(product((False, True), repeat=3)):
        choice = number % 4
        audio, reference, past = (torch.tensor([each]) for each in seen)
        network.zero_grad()
        answer = network(
            clip.latents,
            torch.tensor([500]),
            clip,
            ConditionMask(audio, audio, reference, past),
            choice=torch.tensor([choice]),
        )
        answer.sum().backward()
        reached = {id(weight) for weight in network.parameters() if weight.grad is not None}
        assert reached == trained, (seen, CONDITIONS[choice])


def test_a_step_is_one_forward_of_the_whole(make_dual, make_clip):
    """Else each unit frees its weights for itself, and none are gathered ahead."""

    def work():
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "tensor_parallel"))
        network, clip, roots = make_dual(), make_clip(1), set()
        shard(network, mesh)

        def note(module, given):
            roots.add(module._get_fsdp_state()._state_ctx.iter_forward_root)

        for module in network.modules():
            if isinstance(module, FSDPModule):
                module.register_forward_pre_hook(note)
        network(clip.latents, torch.tensor([500]), clip, ConditionMask.all(1, torch.device("cpu")))
        assert roots == {network._get_fsdp_state()}

    assert start_ranks(work, 1).join()


CASES = {
    # sites are computed again in the backward pass; the reference net runs twice with gradients
    "checkpointing": (
        ClipStage,
        {"reference_projection": "reference", "motion_gradient": True},
        {"gradient_checkpointing": True},
        "32-true",
    ),
    # units with trained and frozen parameters; weights gathered in half precision
    "added, half": (
        ClipStage,
        {},
        {"trained": "added", "self_generated_history": 1.0, "gradient_checkpointing": True},
        "bf16-mixed",
    ),
    "images": (ImageStage, {"shape": {"clip_frames": None}}, {"targets": 2}, "32-true"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_training_is_sharded(runs, make_dual, awaken, tmp_path, case):
    stage, network, model, precision = CASES[case]

    def build():
        torch.manual_seed(0)
        return awaken(make_dual(**network))

    one, two = (
        runs.train(
            tmp_path / name,
            name,
            stage=stage,
            network=build,
            model=model,
            precision=precision,
            max_steps=2,
            limit_val_batches=0,
        )
        for name in ("one", "fsdp2")
    )
    assert len(losses(one)) == 2
    if precision == "32-true":
        assert losses(two) == pytest.approx(losses(one), rel=1e-5)
        assert furthest(one, two) < 0.01
        return
    # AdamW makes as much of a gradient that is rounding as of any other
    assert losses(two) == pytest.approx(losses(one), rel=1e-2)
    born = build().state_dict()
    moves = [moved(run, born) for run in (one, two)]
    kinds = {name.split(".")[1] for name in moves[0]}
    assert moves[0].keys() == moves[1].keys()
    assert kinds == {"audio_projection", "audio_to_latents", "denoiser"}
    ours, theirs = (torch.cat([move[name].flatten() for name in moves[0]]) for move in moves)
    assert torch.cosine_similarity(ours, theirs, 0) > 0.9


def moved(run, born):
    """How far averaged weights have moved, of those that have."""
    moves = {
        name: value - born[name.removeprefix("network.")] for name, value in weights(run).items()
    }
    return {name: move for name, move in moves.items() if move.any()}
