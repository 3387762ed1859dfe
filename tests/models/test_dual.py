"""The two UNets together, by the promises of docs/architecture.md, each as it is stated there."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from loopy.errors import ConfigurationError
from loopy.models import DualUNet, UNet, load_sd15
from loopy.records import BranchLayout, ConditionMask

TEXT_WIDTH = 16
TIMES = torch.tensor([20, 981])
CHOICE = torch.tensor([0, 1, 2, 3])


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def differs(ours, theirs):
    return (ours - theirs).abs().max() > 1e-3


@pytest.fixture
def seeing(make_dual, awaken):
    """Networks whose added branches speak; the past carries gradients."""
    return awaken(make_dual(motion_gradient=True))


def contexts(network, clip, *, live=None):
    tokens = network.audio_projection(clip.audio)
    return network.contexts(
        reference=network.encode_reference(clip.reference),
        past=network.encode_past(clip.motion_frames, live),
        audio=network.project_audio(tokens),
    )


class TestSilentAtBirth:
    """text=True, audio, motion latents and past given, no reference, fresh temporal layers."""

    @pytest.fixture
    def stock(self):
        return UNet2DConditionModel(
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            block_out_channels=(16, 24),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).eval()

    @pytest.mark.parametrize("past", ["full", "partial", "zero", "none"])
    def test_equals_the_stock_unet_per_frame(self, make_dual, make_clip, stock, past):
        network, clip = make_dual(shape={"text_dim": TEXT_WIDTH}), make_clip()
        load_sd15(network.denoiser, stock.state_dict())
        tokens = network.audio_projection(clip.audio)
        live = torch.zeros(2, dtype=torch.bool) if past == "zero" else None
        given = network.contexts(
            past={} if past == "none" else network.encode_past(clip.motion_frames, live),
            audio=network.project_audio(tokens),
        )
        text = torch.randn(2, 7, TEXT_WIDTH)
        ours = network.denoiser(
            clip.latents,
            TIMES,
            given,
            motion=network.audio_to_latents(tokens),
            text=text,
            past_present=torch.arange(4).expand(2, 4) > 1 if past == "partial" else None,
        )
        for frame in range(3):
            close(ours[:, frame], stock(clip.latents[:, frame], TIMES, text).sample)

    def test_but_the_reference_speaks_at_once(self, make_dual, make_clip):
        network, clip = make_dual(), make_clip()
        presence = ConditionMask.all(2)
        dropped = replace(presence, reference=torch.zeros(2, dtype=torch.bool))
        assert differs(
            network(clip.latents, TIMES, clip, presence),
            network(clip.latents, TIMES, clip, dropped),
        )


class TestPresence:
    def test_reference_dropped_is_reference_never_passed(self, seeing, make_clip):
        clip = make_clip()
        presence = replace(ConditionMask.all(2), reference=torch.zeros(2, dtype=torch.bool))
        tokens = seeing.audio_projection(clip.audio)
        never = seeing.denoiser(
            clip.latents,
            TIMES,
            seeing.contexts(audio=seeing.project_audio(tokens)),
            motion=seeing.audio_to_latents(tokens),
        )
        close(seeing(clip.latents, TIMES, clip, presence), never)

    def test_each_sample_has_its_own_presence(self, seeing, make_clip):
        clip, first_only = make_clip(), torch.tensor([True, False])
        everything, nothing = (
            seeing(clip.latents, TIMES, clip, presence)
            for presence in (ConditionMask.all(2), ConditionMask.none(2))
        )
        mixed = seeing(clip.latents, TIMES, clip, ConditionMask(*[first_only] * 4))
        close(mixed[0], everything[0])
        close(mixed[1], nothing[1])
        assert differs(everything[1], nothing[1])

    @pytest.mark.parametrize("field", ["audio", "motion_latents", "reference", "past"])
    def test_what_is_absent_has_no_influence(self, seeing, make_clip, field):
        clip, other = make_clip(), make_clip(seed=1)
        change = {
            "audio": {"audio": other.audio},
            "motion_latents": {"landmarks": other.landmarks},
            "reference": {"reference": other.reference, "motion_frames": other.motion_frames},
            "past": {"motion_frames": other.motion_frames},
        }[field]
        absent = replace(ConditionMask.all(2), **{field: torch.zeros(2, dtype=torch.bool)})
        if field == "audio":
            absent = replace(absent, motion_latents=absent.audio)  # masked jointly
        choice = torch.ones(2, dtype=torch.long) if field == "motion_latents" else None
        before, after = (
            [
                seeing(clip.latents, TIMES, given, presence, choice=choice)
                for given in (clip, replace(clip, **change))
            ]
            for presence in (absent, ConditionMask.all(2))
        )
        assert torch.equal(*before)
        assert differs(*after)

    def test_a_first_clip_attends_to_zeros(self, seeing, make_clip):
        """Masked (zero features, attended) is another state than dropped (not attended)."""
        clip, absent = make_clip(), torch.zeros(2, dtype=torch.bool)
        masked = seeing(clip.latents, TIMES, clip, replace(ConditionMask.all(2), past=absent))
        no_history = replace(clip, past_present=torch.zeros(2, 4, dtype=torch.bool))
        close(masked, seeing(clip.latents, TIMES, no_history, ConditionMask.all(2)))
        audio = seeing.project_audio(seeing.audio_projection(clip.audio))
        reference = seeing.encode_reference(clip.reference)
        motion = seeing.audio_to_latents(seeing.audio_projection(clip.audio))

        def denoise(past):
            given = seeing.contexts(reference=reference, past=past, audio=audio)
            return seeing.denoiser(clip.latents, TIMES, given, motion=motion)

        close(masked, denoise(seeing.encode_past(clip.motion_frames, absent)))
        assert differs(masked, denoise({}))

    def test_no_past_needs_no_run_of_the_reference_net(self, seeing, make_clip, monkeypatch):
        clip, absent = make_clip(), torch.zeros(2, dtype=torch.bool)
        zeros = seeing.encode_past(clip.motion_frames, absent)
        monkeypatch.setattr(seeing.reference_net, "features", None)
        null = seeing.null_past()
        assert null.keys() == zeros.keys()
        for name, kv in null.items():
            for ours, theirs in zip(kv, zeros[name], strict=True):
                assert torch.equal(ours.expand_as(theirs), theirs)
        rows, times = clip.latents.repeat(3, 1, 1, 1, 1), TIMES.repeat(3)
        one, all_ = (
            seeing.denoiser(rows, times, seeing.contexts(past=past), branches=BranchLayout(3, 2, 1))
            for past in (null, zeros)
        )
        assert torch.equal(one, all_)

    @pytest.mark.parametrize("absent", [(), (1,), (0, 1)])
    def test_masks_are_made_where_somebody_is_absent(self, seeing, make_clip, absent):
        """A mask of ones alone rules out the kernels of attention that keep no matrix."""
        clip, reference = make_clip(), torch.ones(2, dtype=torch.bool)
        reference[list(absent)] = False
        given = {}
        seeing.denoiser.register_forward_pre_hook(
            lambda _, args, options: given.update(options), with_kwargs=True
        )
        seeing(clip.latents, TIMES, clip, replace(ConditionMask.all(2), reference=reference))
        masks = given["reference_present"], given["past_present"]
        if not absent:
            assert masks[0] is None
            assert masks[1].all()
        else:
            assert torch.equal(masks[0], reference)
            assert torch.equal(masks[1].any(1), reference)

    def test_empty_slots_of_a_partial_history_have_no_influence(self, seeing, make_clip):
        present = torch.tensor([[False, False, True, True], [False, True, True, True]])
        clip = make_clip(past_present=present)
        noise = torch.randn_like(clip.motion_frames)
        filled = torch.where(present[..., None, None, None], clip.motion_frames, noise)
        before, after = (
            seeing(clip.latents, TIMES, given, ConditionMask.all(2))
            for given in (clip, replace(clip, motion_frames=filled))
        )
        close(after, before)
        whole = replace(clip, past_present=torch.ones(2, 4, dtype=torch.bool))
        assert differs(before, seeing(clip.latents, TIMES, whole, ConditionMask.all(2)))


class TestNeighbours:
    INPUTS = ("reference", "motion_frames", "audio", "landmarks", "measures")

    def test_nobody_sees_a_neighbours_face(self, seeing, make_clip):
        clip = make_clip(4)
        inputs = [getattr(clip, name).requires_grad_() for name in self.INPUTS]
        noisy = torch.randn_like(clip.latents).requires_grad_()
        timestep = torch.tensor([1, 300, 600, 999])
        y = seeing(noisy, timestep, clip, ConditionMask.all(4), choice=CHOICE)
        for video in range(4):
            grads = torch.autograd.grad(
                y[video].square().sum(), [noisy, *inputs], retain_graph=True
            )
            for name, grad in zip(("noisy", *self.INPUTS), grads, strict=True):
                assert not grad[torch.arange(4) != video].any(), name
            reaches = [bool(grad[video].any()) for grad in grads]
            # landmarks and measures are heard where they are chosen
            assert reaches == [True] * 4 + [video == 1, video in (2, 3)]

    def test_guidance_branches_see_what_they_should(self, seeing, make_clip):
        clip = make_clip()
        inputs = [clip.reference, clip.motion_frames, clip.audio]
        for tensor in inputs:
            tensor.requires_grad_()
        given = contexts(seeing, clip)
        y = seeing.denoiser(
            clip.latents.repeat(3, 1, 1, 1, 1),
            TIMES.repeat(3),
            given,
            branches=BranchLayout(3, 2, 1),
        ).unflatten(0, (3, 2))
        for branch, expected in enumerate([(1, 1, 1), (1, 1, 0), (0, 0, 0)]):
            for video in range(2):
                loss = y[branch, video].square().sum()
                grads = torch.autograd.grad(loss, inputs, retain_graph=True)
                assert [bool(grad[video].any()) for grad in grads] == [bool(e) for e in expected]
                assert not any(grad[1 - video].any() for grad in grads)

    def test_every_frame_depends_on_its_own_past(self, seeing, make_clip):
        clip = make_clip()
        clip.motion_frames.requires_grad_()
        y = seeing(clip.latents, TIMES, clip, ConditionMask.all(2))
        for frame in range(3):
            (grad,) = torch.autograd.grad(
                y[0, frame].square().sum(), clip.motion_frames, retain_graph=True
            )
            assert grad[0].flatten(1).any(1).all()


def gradients(network, clip, *, checkpointing):
    switch = "enable" if checkpointing else "disable"
    for part in (network.reference_net, network.denoiser):
        getattr(part, f"{switch}_gradient_checkpointing")()
    network.train().zero_grad(set_to_none=True)
    timestep = torch.tensor([1, 300, 600, 999])
    network(
        clip.latents, timestep, clip, ConditionMask.all(4), choice=CHOICE
    ).square().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


EARLY, LATE, BOTH = (True, False), (False, True), (True, True)  # LATE: sites follow the last tokens


@pytest.mark.parametrize(
    ("attention", "reference_projection", "motion_gradient"),
    [
        (EARLY, "denoiser", False),
        (EARLY, "denoiser", True),
        (LATE, "denoiser", False),
        (LATE, "reference", False),
        (BOTH, "reference", False),
        (LATE, "reference", True),
    ],
)
def test_every_weight_learns(
    make_dual, make_clip, awaken, attention, reference_projection, motion_gradient
):
    network = make_dual(
        shape={"attention": attention, "locality": 1.0},
        reference_projection=reference_projection,
        motion_gradient=motion_gradient,
    )
    awaken(network)
    clip = make_clip(4)
    plain = gradients(network, clip, checkpointing=False)
    trained = {id(parameter) for parameter in network.trainable_parameters()}
    for name, parameter in network.named_parameters():
        if id(parameter) in trained:
            assert plain[name] is not None, name
            assert plain[name].any(), name
        else:
            assert plain[name] is None, name
    again = gradients(network, clip, checkpointing=True)
    assert [n for n, g in again.items() if g is None] == [n for n, g in plain.items() if g is None]
    for name, grad in plain.items():
        if grad is not None:
            torch.testing.assert_close(again[name], grad, msg=lambda m, name=name: f"{name}: {m}")


def test_every_weight_of_the_image_stage_learns(make_clip, awaken, make_denoiser):
    plain = {"audio_dim": None, "clip_frames": None}
    network = DualUNet(make_denoiser(**plain, out_channels=None), make_denoiser(**plain))
    awaken(network)
    clip = make_clip(frames=1)
    network(clip.latents, TIMES, clip, ConditionMask.all(2)).square().sum().backward()
    trained = {id(parameter) for parameter in network.trainable_parameters()}
    for name, parameter in network.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.any())
        assert learns == (id(parameter) in trained), name
    frozen = network.denoiser.conv_in.requires_grad_(False)
    assert not {id(p) for p in frozen.parameters()} & {
        id(p) for p in network.trainable_parameters()
    }


def test_whose_projection_the_reference_passes(make_dual, make_clip):
    """The keys are the named network's: they follow its weights and not the other's."""
    clip = make_clip()
    for whose, expected in (("denoiser", (True, False)), ("reference", (False, True))):
        network = make_dual(reference_projection=whose)
        before = network.encode_reference(clip.reference)
        moved = []
        for part in (network.denoiser, network.reference_net):
            with torch.no_grad():
                part.up_blocks[1].attentions[1].block.attn1.to_k.weight += 1
            after = network.encode_reference(clip.reference)
            moved.append(not torch.equal(after["up_blocks.1.1"].key, before["up_blocks.1.1"].key))
            before = after
        assert tuple(moved) == expected


def test_the_past_carries_gradients_on_request_only(make_dual, make_clip, awaken):
    for wanted in (False, True):
        network = awaken(make_dual(motion_gradient=wanted))
        clip = make_clip()
        clip.motion_frames.requires_grad_()
        keys = network.encode_past(clip.motion_frames)["down_blocks.0.0"].key
        keys.sum().backward()
        assert (clip.motion_frames.grad is not None) == wanted
        assert network.denoiser.down_blocks[0].inter_clip[0].attn1.to_k.weight.grad is not None


def test_without_inter_clip_layers_nobody_sees_a_past(make_dual, make_clip, awaken):
    network = awaken(make_dual(shape={"inter_clip": False}))
    clip = make_clip()
    assert network.encode_past(clip.motion_frames) == network.null_past() == {}
    noise, presence = (
        torch.randn_like(clip.latents),
        ConditionMask.all(len(clip), torch.device("cpu")),
    )
    times = TIMES[: len(clip)]
    own = network(noise, times, clip, presence)
    other = replace(clip, motion_frames=torch.randn_like(clip.motion_frames))
    assert torch.equal(network(noise, times, other, presence), own)
    moved = noise.clone()
    moved[:, 0] += 1  # the intra-clip layer still carries from frame to frame
    assert differs(network(moved, times, clip, presence)[:, 1], own[:, 1])


def test_a_single_layer_sees_past_and_clip(make_dual, make_clip, awaken):
    network = awaken(make_dual(shape={"intra_clip": False}))
    clip = make_clip()
    noise, presence = (
        torch.randn_like(clip.latents),
        ConditionMask.all(len(clip), torch.device("cpu")),
    )
    times = TIMES[: len(clip)]
    own = network(noise, times, clip, presence)
    other = replace(clip, motion_frames=torch.randn_like(clip.motion_frames))
    assert differs(network(noise, times, other, presence), own)
    assert not any("intra_clip" in name for name, _ in network.named_parameters())


@pytest.mark.compile
def test_one_graph_for_fresh_features(seeing, make_clip):
    """Full graph; a new subject, voice, past and timestep need no new one."""
    graphs, branches = [], BranchLayout(3, 2, 1)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(seeing.denoiser, fullgraph=True, backend=backend)
    for seed in range(3):
        clip = make_clip(seed=seed)
        with torch.no_grad():
            arguments = (
                clip.latents.repeat(branches.total, 1, 1, 1, 1),
                (TIMES + seed).repeat(branches.total),
                contexts(seeing, clip),
            )
            options = {
                "branches": branches,
                "motion": torch.randn(2 * branches.total, 3, 64),
                "past_present": torch.rand(2 * branches.seeing_past, 4) > 0.5,
            }
            close(compiled(*arguments, **options), seeing.denoiser(*arguments, **options))
    assert len(graphs) == 1


class TestRefusals:
    def test_networks_that_differ(self, make_denoiser):
        denoiser = make_denoiser()
        for change in ({"block_out_channels": (16, 32)}, {"attention": (True, True)}):
            reference_net = make_denoiser(
                audio_dim=None, clip_frames=None, out_channels=None, **change
            )
            with pytest.raises(ConfigurationError, match=f"{next(iter(change))} differs"):
                DualUNet(reference_net, denoiser)

    def test_a_loaded_network_fits_a_fresh_one(self, make_denoiser, tmp_path):
        make_denoiser(out_channels=None).save_config(tmp_path)
        loaded = UNet.from_config(UNet.load_config(tmp_path))
        DualUNet(loaded, make_denoiser())

    def test_an_unknown_projection(self, make_dual):
        with pytest.raises(ConfigurationError, match="got 'both'"):
            make_dual(reference_projection="both")


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("denoiser", {"audio_dim": 10}, "audio_dim of the denoiser is 10, .* need 12"),
        ("audio_to_latents", {"audio_width": 20}, "audio_width of audio_to_latents is 20, .* 24"),
        ("audio_to_latents", {"time_dim": 32}, "time_dim of audio_to_latents is 32, .* need 64"),
    ],
)
def test_widths_between_networks(make_dual, part, change, told):
    dual = make_dual()
    parts = {
        name: getattr(dual, name)
        for name in ("reference_net", "denoiser", "audio_projection", "audio_to_latents")
    }
    other = type(parts[part]).from_config(dict(parts[part].config) | change)
    with pytest.raises(ConfigurationError, match=told):
        DualUNet(**parts | {part: other})
