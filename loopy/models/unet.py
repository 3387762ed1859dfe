"""The UNet: SD1.5's network on clips. One class, built twice.

As denoiser it has audio attention, temporal layers and a head; as reference net it has none of
them. Attribute names are SD1.5's, so its weights load by name (`loopy.models.weights`).

Letters: b videos (rows: branches b), f frames, n folded images, e time-embedding width.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from loopy.errors import ConfigurationError
from loopy.nn.layers import Layers
from loopy.nn.stages import (
    NOTHING,
    Call,
    DownStage,
    MidStage,
    SiteContext,
    Stage,
    StageOptions,
    UpStage,
)
from loopy.records import BranchLayout, SiteFeatures


class UNet(ModelMixin, ConfigMixin):
    """SD1.5's UNet with Loopy's conditions.

    Args:
        in_channels: Latent channels.
        out_channels: Channels of the prediction; None builds no head (a reference net).
        block_out_channels: Width of each stage.
        attention: Which down stages have spatial transformers (the up stages mirror them).
        layers_per_block: Sites of each down stage; up stages have one more.
        heads: Attention heads.
        norm_num_groups: Groups of every normalisation.
        text_dim: Width of SD1.5's text tokens (768); None, the default, leaves them out.
        audio_dim: Width of the audio tokens; None builds no audio attention.
        clip_frames: Frames of a clip; None builds no temporal layers.
        motion_slots: Squeezed past frames that inter-clip attention sees.
        inter_clip: Whether the temporal layers that see the past are built.
        intra_clip: Whether those that see the clip alone are; without them the network is the
            single-layer one of the paper's ablation.
        temporal_attentions: Self-attentions of each temporal layer: 2 is AnimateDiff's module.
        locality: See `loopy.nn.spatial.SpatialTransformer`; None is the paper's network.
        reference_input: Whether a denoiser also takes the portrait's latents as input, by a
            convolution of their own whose answer is added to that of the noisy ones (zero at
            birth); False is the paper's network.

    Raises:
        ConfigurationError: Lists of different length, widths the groups or heads do not divide,
            or clip frames without a temporal layer.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        *,
        in_channels: int = 4,
        out_channels: int | None = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attention: tuple[bool, ...] = (True, True, True, False),
        layers_per_block: int = 2,
        heads: int = 8,
        norm_num_groups: int = 32,
        text_dim: int | None = None,
        audio_dim: int | None = None,
        clip_frames: int | None = None,
        motion_slots: int = 20,
        inter_clip: bool = True,
        intra_clip: bool = True,
        temporal_attentions: int = 1,
        locality: float | None = None,
        reference_input: bool = False,
    ) -> None:
        super().__init__()
        widths = tuple(block_out_channels)
        self.register_to_config(block_out_channels=widths, attention=tuple(attention))  # not lists
        if len(attention) != len(widths):
            raise ConfigurationError(
                f"attention has {len(attention)} entries for {len(widths)} block_out_channels"
            )
        if any(width % norm_num_groups or width % heads for width in widths):
            raise ConfigurationError(
                f"block_out_channels {widths} must be divisible by norm_num_groups "
                f"({norm_num_groups}) and heads ({heads})"
            )
        if clip_frames is not None and not (inter_clip or intra_clip):
            raise ConfigurationError(
                "clip_frames without inter_clip and intra_clip builds no temporal layer; "
                "set clip_frames null, or one of them true"
            )
        time_dim = widths[0] * 4
        options = StageOptions(
            time_dim=time_dim,
            groups=norm_num_groups,
            heads=heads,
            text_dim=text_dim,
            audio_dim=audio_dim,
            clip_frames=clip_frames,
            motion_slots=motion_slots,
            inter_clip=inter_clip,
            intra_clip=intra_clip,
            temporal_attentions=temporal_attentions,
            locality=locality,
        )
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.conv_reference = None
        if reference_input:
            self.conv_reference = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
            nn.init.zeros_(self.conv_reference.weight)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], time_dim)
        last = len(widths) - 1
        self.down_blocks = Layers(
            DownStage(
                widths[max(i - 1, 0)],
                width,
                layers=layers_per_block,
                attention=attention[i],
                downsample=i < last,
                options=options,
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = MidStage(widths[-1], options=options)
        # Each skip comes from one site or downsampler (or conv_in), newest first.
        skips = [widths[0]]
        for i, width in enumerate(widths):
            skips += [width] * (layers_per_block + (i < last))
        self.up_blocks: Layers[UpStage] = Layers()
        below = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            incoming = []
            for _ in range(layers_per_block + 1):
                incoming.append(below + skips.pop())
                below = width
            self.up_blocks.append(
                UpStage(
                    tuple(incoming), width, attention=attention[i], upsample=i > 0, options=options
                )
            )
        if out_channels is None:
            self.conv_norm_out, self.conv_out = None, None
        else:
            self.conv_norm_out = nn.GroupNorm(norm_num_groups, widths[0], eps=1e-5)
            self.conv_out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def stages(self) -> Iterator[tuple[str, Stage]]:
        """Stages with their names, in the order of the data."""
        yield from ((f"down_blocks.{i}", stage) for i, stage in enumerate(self.down_blocks))
        yield "mid_block", self.mid_block
        yield from ((f"up_blocks.{i}", stage) for i, stage in enumerate(self.up_blocks))

    def sites(self) -> Iterator[tuple[str, Stage, int]]:
        """Every site: its name (``up_blocks.1.2``), its stage and its place there."""
        for name, stage in self.stages():
            yield from ((f"{name}.{i}", stage, i) for i in range(stage.sites))

    def forward(
        self,
        latents: Float[Tensor, "b f c h w"],
        timestep: Int[Tensor, "b"],
        contexts: Mapping[str, SiteContext] | None = None,
        *,
        motion: Float[Tensor, "b f e"] | None = None,
        portrait: Float[Tensor, "videos c h w"] | None = None,
        text: Float[Tensor, "b s d"] | None = None,
        branches: BranchLayout = BranchLayout(),  # noqa: B008 (frozen)
        reference_present: Bool[Tensor, "bearing"] | None = None,
        past_present: Bool[Tensor, "seeing m"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Predict the noise (or velocity) of noisy clips.

        Args:
            latents: Noisy clips, rows (branches b).
            timestep: Diffusion step of each row.
            contexts: Projected conditions by site, from `DualUNet.contexts`; None = no conditions.
            motion: Motion latents, added to the time embedding (Loopy sec. 3.3).
            portrait: Latents of the portraits, where the network takes them as input.
            text: SD1.5's text tokens, where the network was built with them.
            branches: How guidance's branches are stacked.
            reference_present: For the reference-bearing rows, who may see the reference.
            past_present: For the same rows, which motion frames may be seen.

        Raises:
            ConfigurationError: No portrait for a network that takes it as input.
        """
        frames = latents.shape[1]
        embedding = self._time(timestep, latents.dtype)[:, None].expand(-1, frames, -1)
        if motion is not None:
            embedding = embedding + motion
        call = Call(
            embedding.flatten(0, 1),
            frames,
            branches,
            None if text is None else text.repeat_interleave(frames, 0),
            reference_present,
            past_present,
        )
        place = None
        if self.conv_reference is not None and branches.reference:
            if portrait is None:
                raise ConfigurationError(
                    "this denoiser has reference_input; give the latents of the portrait too"
                )
            place = self._place(portrait, call, len(latents))
        x, _ = self._run(latents.flatten(0, 1), call, contexts or {}, place)
        x = self.conv_out(nn.functional.silu(self.conv_norm_out(x)))  # pyright: ignore[reportOptionalCall]  # a denoiser has a head
        return x.unflatten(0, (-1, frames))

    def features(
        self,
        images: Float[Tensor, "n c h w"],
        *,
        text: Float[Tensor, "n s d"] | None = None,
        collect: Literal["tokens", "maps"],
    ) -> dict[str, SiteFeatures]:
        """What the network sees in clean images (timestep 0), at every site.

        Tokens are those its self-attention attends to (after the first norm), maps the outputs
        of its blocks. They are outputs of a forward, so gradient checkpointing keeps gradients.

        Args:
            images: Clean scaled latents.
            text: SD1.5's text tokens, where the network was built with them.
            collect: What is read of it, and kept: the tokens of a portrait, behind the last of
                which the network stops, or the maps of motion frames.
        """
        zero = torch.zeros(len(images), dtype=torch.long, device=images.device)
        call = Call(self._time(zero, images.dtype), 1, text=text, collect=collect)
        return self._run(images, call, {})[1]

    @property
    def last_tokens(self) -> str:
        """Name of the last site with attention."""
        return [name for name, stage, _ in self.sites() if stage.attentions][-1]

    def unused_for_tokens(self, attention: str) -> list[nn.Parameter]:
        """Parameters that `features` does not run for ``tokens``.

        Args:
            attention: What of the last site's attention is unread: ``attn1`` or ``attn1.to_q``
                (then with ``attn1.to_out``), when its own keys and values are used.
        """
        names = [name for name, _, _ in self.sites()]
        last, *later = names[names.index(self.last_tokens) :]
        stage, place = last.rsplit(".", 1)
        inside = f"{stage}.attentions.{place}."
        block = inside + "transformer_blocks.0."
        unread = [f"{stage}.upsamplers.", inside + "proj_out.", inside + "slopes"]
        unread += [block + part for part in ("norm2.", "attn2.", "norm3.", "ff.")]
        unread += [block + attention + ".", block + "attn1.to_out."]
        for name in later:
            stage, place = name.rsplit(".", 1)
            unread += [f"{stage}.{kind}.{place}." for kind in ("resnets", "attentions")]
            unread.append(f"{stage}.upsamplers.")
        return [p for name, p in self.named_parameters() if name.startswith(tuple(unread))]

    def _time(self, timestep: Tensor, dtype: torch.dtype) -> Float[Tensor, "b e"]:
        return self.time_embedding(self.time_proj(timestep).to(dtype))

    def _place(self, portrait: Tensor, call: Call, rows: int) -> Float[Tensor, "n c h w"]:
        """What the portrait adds to the first map of each image; nothing where it is not seen."""
        seen = self.conv_reference(portrait).repeat(call.branches.reference, 1, 1, 1)  # pyright: ignore[reportOptionalCall]  # asked before
        if call.reference_present is not None:
            seen = seen * call.reference_present[:, None, None, None].to(seen)
        unseen = seen.new_zeros(rows - len(seen), *seen.shape[1:])
        return torch.cat([seen, unseen]).repeat_interleave(call.frames, 0)

    def _run(
        self,
        x: Tensor,
        call: Call,
        contexts: Mapping[str, SiteContext],
        place: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, SiteFeatures]]:
        """Run from the first convolution to the last site."""
        features: dict[str, SiteFeatures] = {}
        x = self.conv_in(x)
        x = x if place is None else x + place
        skips = [x]
        for i, stage in enumerate(self.down_blocks):
            for j in range(stage.sites):
                name = f"down_blocks.{i}.{j}"
                x, features[name] = stage.site(j, x, contexts.get(name, NOTHING), call)
                skips.append(x)
            if stage.downsamplers is not None:
                x = stage.downsamplers[0](x)
                skips.append(x)
        name = "mid_block.0"
        x, features[name] = self.mid_block.site(0, x, contexts.get(name, NOTHING), call)
        x = self.mid_block.resnets[1](x, call.embedding)
        for i, stage in enumerate(self.up_blocks):
            for j in range(stage.sites):
                name = f"up_blocks.{i}.{j}"
                x = torch.cat([x, skips.pop()], 1)
                if call.collect == "tokens" and name == self.last_tokens:
                    features[name] = stage.tokens(j, x, call)
                    return x, features
                x, features[name] = stage.site(j, x, contexts.get(name, NOTHING), call)
            if stage.upsamplers is not None:
                x = stage.upsamplers[0](x)
        return x, features
