"""Clip after clip of one portrait: features of the sound in, latents out."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.diffusion.options import DiffusionContract, Sampling
from loopy.diffusion.past import PastCache
from loopy.diffusion.rollout import NO_CONDITIONS, next_clip, rows_of_clip
from loopy.diffusion.sampler import Scheduler
from loopy.errors import ModelError
from loopy.models.dual import DualUNet


class ClipLoop:
    """A video in the making: what is computed once for it, and where it stands.

    Args:
        network: The networks.
        scheduler: Noise schedule.
        portrait: Its latents, on the denoiser's device.
        contract: What the weights were trained for.
        sampling: How to sample.
        seed: Seed of the video's noise.
        conditions: Values for each frame of the video, by the names of the network's further
            conditions; NaN, and frames beyond the last row: none.
        motion_frames: False makes each clip as if none was before it: a baseline.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: DualUNet,
        scheduler: Scheduler,
        portrait: Float[Tensor, "1 c h w"],
        *,
        contract: DiffusionContract,
        sampling: Sampling,
        seed: int = 0,
        conditions: Mapping[str, Float[Tensor, "frames v"]] = NO_CONDITIONS,
        motion_frames: bool = True,
    ) -> None:
        self._network, self._scheduler, self._portrait = network, scheduler, portrait
        self._contract, self._sampling = contract, sampling
        self._conditions, self._motion_frames = conditions, motion_frames
        self._reference = network.encode_reference(portrait.to(network.denoiser.dtype))
        _, channels, height, width = portrait.shape
        self._size = channels, height, width
        self._penalties = network.penalties(height, width)
        self._cache = PastCache()
        self._state = contract.first_state(portrait, seed=seed)

    @torch.no_grad()
    def step(self, audio: Float[Tensor, "1 f n k d"]) -> Float[Tensor, "1 f c h w"]:
        """Latents of the next clip.

        Args:
            audio: Sound features of its frames and their neighbours, in any precision.

        Raises:
            ModelError: They are not finite.
        """
        audio = audio.to(self._network.denoiser.dtype)
        if not self._motion_frames:
            self._state = replace(self._state, past=self._state.past[:, :0])
        latents, self._state = next_clip(
            self._network,
            self._scheduler,
            reference=self._reference,
            portrait=self._portrait,
            audio=audio,
            state=self._state,
            size=self._size,
            contract=self._contract,
            sampling=self._sampling,
            conditions=rows_of_clip(self._conditions, self._state.clip, audio),
            cache=self._cache,
            penalties=self._penalties,
        )
        if not latents.isfinite().all():
            raise ModelError(
                f"clip {self._state.clip} of the video is not finite: the weights are damaged, "
                "or too large for this precision; copy the model again, or use float32"
            )
        return latents

    def forget(self, frames: int) -> None:
        """The last frames were never shown: the next clip goes on from the one before them.

        A past that was full stays full: its oldest frame is held still for as long.
        """
        past = self._state.past
        shown = past[:, : max(past.shape[1] - frames, 0)]
        if past.shape[1] == self._contract.layout.past_frames:
            held = past[:, :1].expand(-1, past.shape[1] - shown.shape[1], -1, -1, -1)
            shown = torch.cat([held, shown], 1)
        self._state = replace(self._state, past=shown)
