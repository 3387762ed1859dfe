"""The two stages of Loopy's training (sec. 4): images first, then clips."""

from dataclasses import replace
from typing import Any, Literal

import torch

from loopy.errors import ConfigurationError
from loopy.models.weights import ADDED
from loopy.records import Clip
from loopy.training.module import LoopyModule


class ImageStage(LoopyModule):
    """Single frames: which pose and mouth, given who (no temporal layers).

    The paper's stage has no audio either: then leave the audio modules out of the network. A
    small model learns the lips sooner when it hears the frames' sound already here.

    Args:
        targets: Frames of a portrait in a sample, drawn from the clip's; they share one
            reference and know nothing of each other.
        *options: See `LoopyModule`.
        **more: See `LoopyModule`.

    Raises:
        ConfigurationError: A network with temporal layers.
    """

    def __init__(self, *options: Any, targets: int = 6, **more: Any) -> None:
        super().__init__(*options, **more)
        if self.network.denoiser.config["clip_frames"] is not None:
            raise ConfigurationError("the image stage has no temporal layers; set clip_frames null")
        if self.self_generated_history:
            raise ConfigurationError("the image stage has no past; leave self_generated_history 0")
        if self.sync is not None:
            raise ConfigurationError("the image stage has no frames in a row; leave sync_weight 0")
        self.targets = targets

    def select(self, clip: Clip, generators: list[torch.Generator]) -> Clip:
        """Keep ``targets`` frames of each clip."""
        frames = clip.latents.shape[1]
        keep = torch.stack([torch.randperm(frames, generator=g) for g in generators])
        keep = keep[:, : self.targets].to(clip.latents.device)
        rows = torch.arange(len(clip), device=keep.device)[:, None]
        cut = {name: getattr(clip, name)[rows, keep] for name in ("latents", "audio", "landmarks")}
        weight = None if clip.weight is None else clip.weight[rows, keep]
        conditions = {name: values[rows, keep] for name, values in clip.conditions.items()}
        return replace(clip, **cut, weight=weight, conditions=conditions)


class ClipStage(LoopyModule):
    """Clips with audio and past; starts from an image stage.

    Args:
        trained: ``all`` (the paper's full training), or ``added``: only what SD1.5 lacks (audio,
            temporal layers, slopes of attention, the portrait's convolution), with the rest of
            both UNets frozen (as Hallo trains).
        *options: See `LoopyModule`.
        **more: See `LoopyModule`.

    Raises:
        ConfigurationError: A network without temporal layers.
    """

    def __init__(
        self, *options: Any, trained: Literal["all", "added"] = "all", **more: Any
    ) -> None:
        super().__init__(*options, **more)
        if self.network.denoiser.config["clip_frames"] is None:
            raise ConfigurationError("the clip stage needs temporal layers; set clip_frames")
        if trained == "added":
            for name, parameter in self.network.named_parameters():
                added = name.startswith("audio_") or any(part in name for part in ADDED)
                parameter.requires_grad_(parameter.requires_grad and added)

    def setup(self, stage: str) -> None:
        """See `LoopyModule.setup`; says where the scale of motion is not that of the clips."""
        super().setup(stage)
        audio_to_latents = self.network.audio_to_latents
        if stage != "fit" or audio_to_latents is None:
            return
        scale = (*audio_to_latents.config["log_mean"], *audio_to_latents.config["log_std"])
        if scale == (0, 0, 1, 1):
            self.print(
                "loopy: log_mean and log_std of audio_to_latents are not those of the clips; put "
                "in what loopy data report prints of their store"
            )
