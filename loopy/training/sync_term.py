"""A loss term for lips in step with the sound: the sync judge looks at the latents that are made.

Wav2Lip (arXiv 2008.10010) trains a generator against a frozen judge of sync, and LatentSync
(arXiv 2412.09262) a diffusion model, on decoded pictures. Here the judge reads the mouth in latents
(`loopy.models.sync.SyncJudge.latents`), so that nothing is decoded.
"""

from copy import deepcopy

from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.models import AudioEncoder
from loopy.models.folder import ASSETS
from loopy.models.latents import Autoencoder
from loopy.models.sync import MOUTH_CELLS, WINDOW, SyncJudge
from loopy.models.weights import store_fingerprints
from loopy.training.start import load_frozen

LATENTS, FEATURES = (8, 16, 16), (5, 160)
"""Of a frame, in the toon model: the judge knows no others."""


class SyncTerm:
    """How far the mouths of clips are from their sound, to the judge of the package.

    No module: what a training writes down is the same with it and without, so that one may be
    resumed with it switched on or off.

    Args:
        weight: What the term is multiplied by.

    Raises:
        ModelError: The judge is missing or damaged.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.judge = SyncJudge.from_pretrained().requires_grad_(False)

    def check(self, vae: Autoencoder, audio_encoder: AudioEncoder) -> None:
        """Make sure that clips are of the networks whose latents and features the judge knows.

        Raises:
            ConfigurationError: They are of others, though their shapes may be the same.
        """
        known = _fingerprints(*load_frozen(ASSETS / "toon"))
        ours = _fingerprints(vae, audio_encoder)
        other = [name for name in ours if ours[name] != known[name]]
        if other:
            raise ConfigurationError(
                f"the sync judge has learned from the embedded model toon, of which these clips "
                f"have another {' and '.join(other)}; leave sync_weight at 0"
            )

    def __call__(
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
        judge = self.judge.to(latents.device)  # no copy where it is there
        heard = judge.sound(audio[:, :, audio.shape[2] // 2].float())
        seen = judge.latents(latents[..., *MOUTH_CELLS].float())
        return self.weight * (1 - (heard * seen).sum(-1)).mean(1)


def _fingerprints(vae: Autoencoder, audio_encoder: AudioEncoder) -> dict[str, str]:
    """In half precision, as the embedded model is kept: rounding makes no other network."""
    return store_fingerprints(deepcopy(vae).half(), deepcopy(audio_encoder).half())
