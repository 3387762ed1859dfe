"""DualUNet: reference net, denoiser and audio modules as one function of noise and conditions.

Two ways in, one path through: training calls `DualUNet.forward`; inference calls the same steps
one by one and keeps what does not change (`encode_reference` once a subject; `penalties` once a
video; `frame_tokens` once a motion frame; `project_tokens`, or `null_past`, and `project_audio`
once a clip; `UNet.forward` once a diffusion step). `forward` calls them as functions of the
class: with sharded weights a method of the instance is an entry of its own
(`loopy.training.sharding`).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from loopy.errors import ConfigurationError
from loopy.models.audio import AudioProjection
from loopy.models.audio_to_latents import AudioToLatents
from loopy.models.condition import FrameCondition
from loopy.models.unet import UNet
from loopy.nn.attention import KeyValue
from loopy.nn.stages import SiteContext
from loopy.records import Clip, ConditionMask

SiteKeys = Mapping[str, KeyValue]
SiteTokens = Mapping[str, Tensor]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
"""How hard torch.compile tries."""

NONE: SiteKeys = MappingProxyType({})
NO_PENALTIES: Mapping[str, Tensor] = MappingProxyType({})


class Conditioned(NamedTuple):
    """What the denoiser is given of a training batch besides noise and timestep.

    Attributes:
        contexts: By site, see `UNet.forward`.
        motion: What is added to the time embedding of each frame; None = nothing.
        portrait: Its latents.
        reference_present: Who sees the portrait; None = all.
        past_present: Which motion frames exist.
    """

    contexts: Mapping[str, SiteContext]
    motion: Float[Tensor, "b f e"] | None
    portrait: Float[Tensor, "b c h w"]
    reference_present: Bool[Tensor, "b"] | None
    past_present: Bool[Tensor, "b m"]


class DualUNet(nn.Module):
    """The trainable networks of Loopy (sec. 3.1).

    Args:
        reference_net: `UNet` without audio, temporal layers and head.
        denoiser: `UNet` with a head; with audio and temporal layers for the clip stage.
        audio_projection: Sound features -> audio tokens; None in a stage without sound.
        audio_to_latents: Audio tokens or movement -> motion latents; None likewise.
        conditions: Further conditions of frames, by name.
        reference_projection: Whose K/V maps the reference tokens pass: the ``denoiser``'s (as
            open code does) or the ``reference``'s own (as the paper may be read).
        motion_gradient: Whether training reaches the reference net through motion frames too.

    Raises:
        ConfigurationError: Networks whose sites or widths differ.
    """

    def __init__(
        self,
        reference_net: UNet,
        denoiser: UNet,
        audio_projection: AudioProjection | None = None,
        audio_to_latents: AudioToLatents | None = None,
        *,
        conditions: Mapping[str, FrameCondition] | None = None,
        reference_projection: Literal["denoiser", "reference"] = "denoiser",
        motion_gradient: bool = False,
    ) -> None:
        super().__init__()
        for name in ("in_channels", "block_out_channels", "attention", "layers_per_block"):
            ours, theirs = reference_net.config[name], denoiser.config[name]
            if ours != theirs:
                raise ConfigurationError(
                    f"{name} differs: reference net {ours}, denoiser {theirs}; make them equal"
                )
        if reference_projection not in ("denoiser", "reference"):
            raise ConfigurationError(
                f"reference_projection is 'denoiser' or 'reference', got {reference_projection!r}"
            )
        self.conditions = nn.ModuleDict(conditions or {})
        _check_widths(denoiser.config, audio_projection, audio_to_latents, conditions or {})
        self.reference_net = reference_net
        self.denoiser = denoiser
        self.audio_projection = audio_projection
        self.audio_to_latents = audio_to_latents
        self.reference_projection = reference_projection
        self.motion_gradient = motion_gradient

    @property
    def sees_past(self) -> bool:
        """Whether the denoiser has layers that look at motion frames."""
        config = self.denoiser.config
        return config["clip_frames"] is not None and config["inter_clip"]

    def encode_reference(self, portrait: Float[Tensor, "b c h w"]) -> dict[str, KeyValue]:
        """Keys and values of the portrait's tokens at each site with attention; rows b."""
        features = self.reference_net.features(portrait, collect="tokens")
        source = self.denoiser if self.reference_projection == "denoiser" else self.reference_net
        return {
            name: stage.attentions[i].project_reference(features[name].tokens)  # pyright: ignore[reportArgumentType]  # kept there
            for name, stage, i in source.sites()
            if stage.attentions
        }

    def encode_past(
        self, motion_frames: Float[Tensor, "b m c h w"], live: Bool[Tensor, "b"] | None = None
    ) -> dict[str, KeyValue]:
        """Keys and values of the motion frames at each site; rows (b h w).

        Args:
            motion_frames: Squeezed past, oldest first.
            live: Where False, features are zero: the state of a first clip (40 % of training).
        """
        if not self.sees_past:
            return {}
        videos, slots = motion_frames.shape[:2]
        with nullcontext() if self.motion_gradient else torch.no_grad():
            features = self.reference_net.features(motion_frames.flatten(0, 1), collect="maps")
        keys = {}
        for name, stage, i in self.denoiser.sites():
            maps = features[name].maps.unflatten(0, (videos, slots))  # pyright: ignore[reportOptionalMemberAccess]  # asked for
            if live is not None:
                maps = maps * live[:, None, None, None, None].to(maps)
            keys[name] = stage.inter_clip[i].project_past(maps)
        return keys

    def frame_tokens(self, motion_frames: Float[Tensor, "b m c h w"]) -> dict[str, Tensor]:
        """Tokens (bhw m c) of motion frames at each site, whatever slots they will take.

        The reference net sees each frame by itself, at timestep 0: its tokens depend on nothing
        else, and stay what they are from clip to clip.
        """
        if not self.sees_past:
            return {}
        features = self.reference_net.features(motion_frames.flatten(0, 1), collect="maps")
        return {
            name: stage.inter_clip[i].frame_tokens(
                features[name].maps.unflatten(0, motion_frames.shape[:2])  # pyright: ignore[reportOptionalMemberAccess]  # asked for
            )
            for name, stage, i in self.denoiser.sites()
        }

    def project_tokens(self, tokens: SiteTokens) -> dict[str, KeyValue]:
        """Keys and values of the slots' `frame_tokens`; with them, those of `encode_past`."""
        return {
            name: stage.inter_clip[i].project_tokens(tokens[name])
            for name, stage, i in self.denoiser.sites()
            if name in tokens
        }

    def null_past(self) -> dict[str, KeyValue]:
        """Keys and values of a first clip, which has no past, at each site; one row for all.

        Equal to those of `encode_past` with nothing live, without a run of the reference net.
        """
        if not self.sees_past:
            return {}
        return {name: stage.inter_clip[i].null_past() for name, stage, i in self.denoiser.sites()}

    def project_audio(self, tokens: Float[Tensor, "b f a s"]) -> dict[str, KeyValue]:
        """Keys and values of the audio tokens at each site with attention; rows (b f)."""
        if self.denoiser.config["audio_dim"] is None:
            return {}
        rows = tokens.flatten(0, 1)
        return {
            name: stage.attentions[i].block.audio_attn.project(rows)  # pyright: ignore[reportOptionalMemberAccess]  # has audio_dim
            for name, stage, i in self.denoiser.sites()
            if stage.attentions
        }

    def embed_frames(
        self, motion: Float[Tensor, "b f e"] | None, conditions: Mapping[str, Tensor]
    ) -> Float[Tensor, "b f e"] | None:
        """What is added to the time embedding: motion latents and the conditions of frames.

        Args:
            motion: Motion latents.
            conditions: Values (b f v) of some or all of the network's conditions.

        Raises:
            ConfigurationError: Values of a condition that the network has not.
        """
        if unknown := conditions.keys() - self.conditions.keys():
            raise ConfigurationError(
                f"the network has no condition {sorted(unknown)}; its conditions: "
                f"{list(self.conditions) or 'none'}"
            )
        for name, values in conditions.items():
            added = self.conditions[name](values)
            motion = added if motion is None else motion + added
        return motion

    def penalties(self, height: int, width: int) -> dict[str, Tensor]:
        """Position penalties of the denoiser's sites that have one, for latents of a size.

        They are of the weights alone, and so once a video; see `SpatialTransformer.penalty`.
        """
        penalties, stages = {}, list(self.denoiser.stages())
        for i, (name, stage) in enumerate(stages):
            halvings = min(i, len(stages) - 1 - i, len(stages) // 2 - 1)  # the middle's: the last
            for j, transformer in enumerate(stage.attentions):
                if transformer.slopes is not None:
                    size = (height >> halvings, width >> halvings)
                    penalties[f"{name}.{j}"] = transformer.penalty(*size)
        return penalties

    def contexts(
        self,
        *,
        reference: SiteKeys = NONE,
        past: SiteKeys = NONE,
        audio: SiteKeys = NONE,
        penalties: Mapping[str, Tensor] = NO_PENALTIES,
    ) -> dict[str, SiteContext]:
        """Gather projected conditions by site, as `UNet.forward` wants them."""
        return {
            name: SiteContext(
                reference.get(name), past.get(name), audio.get(name), penalties.get(name)
            )
            for name, _, _ in self.denoiser.sites()
        }

    def forward(
        self,
        noisy: Float[Tensor, "b f c h w"],
        timestep: Int[Tensor, "b"],
        clip: Clip,
        presence: ConditionMask,
        *,
        choice: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Predict the noise of a training batch.

        No module is skipped for a sample: what is absent is zeroed or key-masked.

        Args:
            noisy: Noisy latents of the clips.
            timestep: Diffusion step of each.
            clip: Their conditions.
            presence: Who may see what; on the CPU, see `ConditionMask`.
            choice: Condition of audio-to-latents for each sample; None = audio.
        """
        given = DualUNet.conditioned(self, clip, presence, choice=choice)
        return DualUNet.denoise(self, noisy, timestep, given)

    def conditioned(
        self, clip: Clip, presence: ConditionMask, *, choice: Int[Tensor, "b"] | None = None
    ) -> Conditioned:
        """What `denoise` is given of a training batch: once for any number of diffusion steps.

        Args:
            clip: The conditions.
            presence: Who may see what; on the CPU, see `ConditionMask`.
            choice: Condition of audio-to-latents for each sample; None = audio.
        """
        audio, motion = {}, None
        if self.audio_projection is not None:
            tokens = self.audio_projection(clip.audio)
            heard = tokens * presence.audio[:, None, None, None].to(tokens)
            audio = DualUNet.project_audio(self, heard)
            if self.audio_to_latents is not None:
                motion = self.audio_to_latents(
                    tokens, landmarks=clip.landmarks, measures=clip.measures, choice=choice
                )
        motion = DualUNet.embed_frames(self, motion, clip.conditions)
        if motion is not None:
            motion = motion * presence.motion_latents[:, None, None].to(motion)
        present = clip.past_present
        device = present.device
        reference = presence.reference_mask(device)
        live = presence.past.to(device) & present.any(1)
        present = torch.where(live[:, None], present, True)
        contexts = self.contexts(
            reference=DualUNet.encode_reference(self, clip.reference),
            past=DualUNet.encode_past(self, clip.motion_frames, live),
            audio=audio,
        )
        past_present = present if reference is None else present & reference[:, None]
        return Conditioned(contexts, motion, clip.reference, reference, past_present)

    def denoise(
        self, noisy: Float[Tensor, "b f c h w"], timestep: Int[Tensor, "b"], given: Conditioned
    ) -> Float[Tensor, "b f c h w"]:
        """Predict the noise of a training batch with what `conditioned` made of it.

        Args:
            noisy: Noisy latents of the clips.
            timestep: Diffusion step of each.
            given: From `conditioned`.
        """
        return self.denoiser(
            noisy,
            timestep,
            given.contexts,
            motion=given.motion,
            portrait=given.portrait,
            reference_present=given.reference_present,
            past_present=given.past_present,
        )

    def compile_denoiser(self, *, mode: CompileMode = "default") -> None:
        """Let torch.compile make the denoiser faster, where it is: the first clips take longer.

        Nothing breaks its graph, which all clips of a size share; unguided steps, a first clip
        without a past and a past that is only partly there have one each.

        Torch compiles up to 8 such variants, and runs further ones as they are.

        Args:
            mode: Torch's; "reduce-overhead" replays CUDA graphs.

        Raises:
            ConfigurationError: No such mode.
        """
        if mode not in get_args(CompileMode):
            raise ConfigurationError(
                f"mode is {mode!r:.80}, expected one of {get_args(CompileMode)}"
            )
        self.denoiser.compile(mode=mode)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters that a loss can reach: without what the reference net runs for nobody.

        Where no motion frame carries a gradient, only tokens are read, and everything behind
        the last attention's first norm has none.
        """
        if self.motion_gradient and self.sees_past:
            return [p for p in self.parameters() if p.requires_grad]
        attention = "attn1" if self.reference_projection == "denoiser" else "attn1.to_q"
        unread = {id(p) for p in self.reference_net.unused_for_tokens(attention)}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in unread]


def _check_widths(
    denoiser: Mapping[str, Any],
    projection: AudioProjection | None,
    to_latents: AudioToLatents | None,
    conditions: Mapping[str, FrameCondition],
) -> None:
    """Makes sure that what passes between the networks fits.

    Raises:
        ConfigurationError: It does not.
    """
    widths: list[tuple[str, int, int]] = []
    if projection is not None:
        tokens, width = projection.config["tokens"], projection.config["token_width"]
        if denoiser["audio_dim"] is not None:
            widths.append(("audio_dim of the denoiser", denoiser["audio_dim"], width))
        if to_latents is not None:
            given = to_latents.config["audio_width"]
            widths.append(("audio_width of audio_to_latents", given, tokens * width))
    time_dim = 4 * denoiser["block_out_channels"][0]
    if to_latents is not None:
        widths.append(("time_dim of audio_to_latents", to_latents.config["time_dim"], time_dim))
    for name, condition in conditions.items():
        widths.append((f"time_dim of {name}", condition.config["time_dim"], time_dim))
    for name, given, needed in widths:
        if given != needed:
            raise ConfigurationError(f"{name} is {given}, the other networks need {needed}; set it")
