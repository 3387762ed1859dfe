"""The down, middle and up stages of the UNet, with SD1.5's attribute names.

A stage is a row of *sites*. Order within a site: resnet (time embedding + motion latents) ->
self-attention with the reference -> audio -> feed-forward -> inter-clip -> intra-clip.

Letters: n = (branches b f) folded images, e time-embedding width.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from loopy.nn.attention import KeyValue, extend_mask
from loopy.nn.layers import Layers
from loopy.nn.spatial import SpatialTransformer
from loopy.nn.temporal import TemporalLayer
from loopy.records import BranchLayout, SiteFeatures


class SiteContext(NamedTuple):
    """Projected conditions of one site; None = nothing to attend to.

    Attributes:
        reference: Reference tokens, rows b.
        past: Motion frames, rows (b h w); a single row stands for every place (no past yet).
        audio: Audio tokens, rows (b f).
        penalty: `SpatialTransformer.penalty` of the site; None = computed there, if it has one.
    """

    reference: KeyValue | None = None
    past: KeyValue | None = None
    audio: KeyValue | None = None
    penalty: Tensor | None = None


NOTHING = SiteContext()
"""The conditions of a site where there are none."""


@dataclass(frozen=True)
class Call:
    """What all sites of one forward share.

    Args:
        embedding: Time embedding plus motion latents, one row an image.
        frames: Frames of a clip (f).
        branches: Layout of the rows.
        text: SD1.5's text tokens, one row an image.
        reference_present: Which videos see the reference; None = all.
        past_present: Which motion frames are seen; None = all.
        collect: What a reference net keeps: nothing, the tokens of a portrait, or the maps of
            motion frames.
    """

    embedding: Float[Tensor, "n e"]
    frames: int
    branches: BranchLayout = field(default_factory=BranchLayout)
    text: Float[Tensor, "n s d"] | None = None
    reference_present: Bool[Tensor, "b"] | None = None
    past_present: Bool[Tensor, "b m"] | None = None
    collect: Literal["nothing", "tokens", "maps"] = "nothing"


@dataclass(frozen=True)
class StageOptions:
    """What all stages of a network have in common; see `loopy.models.UNet` for the meaning."""

    time_dim: int
    groups: int
    heads: int
    text_dim: int | None
    audio_dim: int | None
    clip_frames: int | None
    motion_slots: int
    inter_clip: bool
    intra_clip: bool
    temporal_attentions: int
    locality: float | None

    def resnet(self, channels: int, out_channels: int) -> ResnetBlock2D:
        """SD1.5's residual block."""
        return ResnetBlock2D(
            in_channels=channels,
            out_channels=out_channels,
            temb_channels=self.time_dim,
            groups=self.groups,
            eps=1e-5,
        )

    def transformer(self, channels: int) -> SpatialTransformer:
        """The spatial transformer of a site."""
        return SpatialTransformer(
            channels,
            heads=self.heads,
            groups=self.groups,
            text_dim=self.text_dim,
            audio_dim=self.audio_dim,
            locality=self.locality,
        )

    def temporal(
        self, channels: int, sites: int, *, built: bool, motion_slots: int
    ) -> Layers[TemporalLayer]:
        """Temporal layers of a stage's sites; empty for a network of single images."""
        if self.clip_frames is None or not built:
            return Layers()
        return Layers(
            TemporalLayer(
                channels,
                heads=self.heads,
                groups=self.groups,
                clip_frames=self.clip_frames,
                motion_slots=motion_slots,
                attentions=self.temporal_attentions,
            )
            for _ in range(sites)
        )


class Stage(nn.Module):
    """Sites of one resolution; subclasses add what happens between and after them."""

    def __init__(
        self,
        channels: tuple[tuple[int, int], ...],
        *,
        sites: int,
        attention: bool,
        options: StageOptions,
    ) -> None:
        super().__init__()
        width = channels[0][1]
        self.resnets = nn.ModuleList(options.resnet(*pair) for pair in channels)
        self.attentions = Layers(
            options.transformer(width) for _ in range(sites if attention else 0)
        )
        self.inter_clip = options.temporal(
            width, sites, built=options.inter_clip, motion_slots=options.motion_slots
        )
        self.intra_clip = options.temporal(width, sites, built=options.intra_clip, motion_slots=0)
        self.gradient_checkpointing = False

    @property
    def sites(self) -> int:
        """Number of places where features are exchanged."""
        return len(self.resnets)

    def site(
        self, index: int, x: Float[Tensor, "n c h w"], context: SiteContext, call: Call
    ) -> tuple[Float[Tensor, "n out h w"], SiteFeatures]:
        """Run one site.

        Returns:
            Its output, and what a reference net keeps of it.
        """
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(self._site, index, x, context, call, use_reentrant=False)  # pyright: ignore[reportReturnType]  # untyped
        return self._site(index, x, context, call)

    def tokens(self, index: int, x: Float[Tensor, "n c h w"], call: Call) -> SiteFeatures:
        """Run a site just as far as the tokens its self-attention sees."""
        return SiteFeatures(
            tokens=self.attentions[index].tokens(self.resnets[index](x, call.embedding))[1]
        )

    def _site(
        self, index: int, x: Tensor, context: SiteContext, call: Call
    ) -> tuple[Tensor, SiteFeatures]:
        x = self.resnets[index](x, call.embedding)
        tokens = None
        if self.attentions:
            x, tokens = self._attend(self.attentions[index], x, context, call)
        maps = x
        if self.inter_clip:
            past, seeing = None, call.branches.seeing_past
            clip = x.unflatten(0, (-1, call.frames))
            if context.past is not None and seeing:
                videos = len(clip) // call.branches.total
                past = context.past.expand(seeing, 1, rows=videos * x[0, 0].numel())
            clip = self.inter_clip[index](clip, past=past, past_present=call.past_present)
            x = clip.flatten(0, 1)
        if self.intra_clip:
            x = self.intra_clip[index](x.unflatten(0, (-1, call.frames))).flatten(0, 1)
        match call.collect:
            case "maps":
                return x, SiteFeatures(maps=maps)
            case "tokens":
                return x, SiteFeatures(tokens=tokens)
        return x, SiteFeatures()

    def _attend(
        self, transformer: SpatialTransformer, x: Tensor, context: SiteContext, call: Call
    ) -> tuple[Tensor, Tensor]:
        reference, mask = None, None
        if context.reference is not None and call.branches.reference:
            reference = context.reference.expand(call.branches.reference, call.frames)
            if call.reference_present is not None:
                own, extra = x.shape[-2] * x.shape[-1], reference.key.shape[4]
                present = call.reference_present.repeat_interleave(call.frames, 0)
                mask = extend_mask(present[:, None].expand(-1, extra), own)
        audio = None
        if context.audio is not None:
            audio = context.audio.expand(call.branches.audio, 1).folded()
        return transformer(
            x,
            text=call.text,
            audio=audio,
            reference=reference,
            mask=mask,
            penalty=context.penalty,
        )


class DownStage(Stage):
    """SD1.5's down block."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        layers: int,
        attention: bool,
        downsample: bool,
        options: StageOptions,
    ) -> None:
        pairs = tuple((channels if i == 0 else out_channels, out_channels) for i in range(layers))
        super().__init__(pairs, sites=layers, attention=attention, options=options)
        down = Downsample2D(out_channels, use_conv=True, name="op", padding=1)
        self.downsamplers = nn.ModuleList([down]) if downsample else None


class MidStage(Stage):
    """SD1.5's middle: resnet, transformer, resnet. One site, between the two resnets."""

    def __init__(self, channels: int, *, options: StageOptions) -> None:
        pairs = ((channels, channels),) * 2
        super().__init__(pairs, sites=1, attention=True, options=options)

    @property
    def sites(self) -> int:
        """One: the second resnet follows it."""
        return 1


class UpStage(Stage):
    """SD1.5's up block; each site first takes a skip connection."""

    def __init__(
        self,
        channels: tuple[int, ...],
        out_channels: int,
        *,
        attention: bool,
        upsample: bool,
        options: StageOptions,
    ) -> None:
        pairs = tuple((incoming, out_channels) for incoming in channels)
        super().__init__(pairs, sites=len(pairs), attention=attention, options=options)
        up = Upsample2D(out_channels, use_conv=True)
        self.upsamplers = nn.ModuleList([up]) if upsample else None
