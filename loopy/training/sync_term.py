"""A loss term for lips in step with the sound: the sync judge looks at the latents that are made.

Wav2Lip (arXiv 2008.10010) trains a generator against a frozen judge of sync, and LatentSync
(arXiv 2412.09262) a diffusion model, on decoded pictures. Here the judge reads the mouth in latents
(`loopy.models.sync.LatentTower`), so that nothing is decoded.
"""

from jaxtyping import Float
from torch import Tensor, nn

from loopy.errors import ConfigurationError
from loopy.models.sync import MOUTH_CELLS, WINDOW, SyncJudge

LATENTS, FEATURES = (8, 16, 16), (5, 160)
"""Of a frame, in the toon model: the judge knows no others."""


class SyncTerm(nn.Module):
    """How far the mouths of clips are from their sound, to the judge of the package.

    Args:
        weight: What the term is multiplied by.

    Raises:
        ModelError: The judge is missing or damaged.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        judge = SyncJudge.from_pretrained().requires_grad_(False)
        self.sound, self.latents = judge.sound, judge.latents

    def forward(
        self, latents: Float[Tensor, "b f c h w"], audio: Float[Tensor, "b f n k d"]
    ) -> Float[Tensor, "b"]:
        """1 - cosine of what is seen and what is heard, the mean over a clip's windows.

        Args:
            latents: What is made, scaled.
            audio: Features of each frame and its neighbours (`loopy.records.Clip`).

        Raises:
            ConfigurationError: Of another model than the toon model, or too few frames.
        """
        given = tuple(latents.shape[2:]), tuple(audio.shape[3:])
        if given != (LATENTS, FEATURES) or latents.shape[1] < WINDOW:
            raise ConfigurationError(
                f"the sync judge reads latents {LATENTS} and audio features {FEATURES} of the toon "
                f"model, {WINDOW} frames at least; got {given[0]} and {given[1]}, "
                f"{latents.shape[1]} frames; leave sync_weight at 0"
            )
        heard = self.sound(audio[:, :, audio.shape[2] // 2].float())
        seen = self.latents(latents[..., *MOUTH_CELLS].float())
        return self.weight * (1 - (heard * seen).sum(-1)).mean(1)
