"""The audio encoder, wav2vec2 for phonemes and mouth shapes, and the sounds it learns from."""

from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2Model

from loopy.models.folder import save_part
from loopy.synthetic.noise import augment
from loopy.synthetic.talker import Kind, random_talk
from loopy.synthetic.visemes import PHONEMES, phoneme_labels, viseme_tracks
from loopy.training.datamodule import LoopyDataModule
from loopy.training.optim import scheduled

VISEMES = 4
SPEECH_FRAMES = 0.05
"""A sound with a smaller share of frames with phonemes counts as a negative."""


RATE_HZ = 50
"""Rate of wav2vec2's vectors."""

_KINDS: dict[Kind, float] = {
    **{"speech": 0.7, "mixed": 0.15, "noise": 0.08, "listening": 0.04, "silence": 0.03}
}


class Utterances(NamedTuple):
    """A batch of sounds of the same length.

    Attributes:
        audio: 16 kHz, of mean 0 and variance 1, as the encoder wants it.
        phonemes: Index into `PHONEMES` at 50 Hz; 0 is silence.
        visemes: Open, wide, round and teeth at 50 Hz, each 0 to 1.
    """

    audio: Float[Tensor, "n samples"]
    phonemes: Int[Tensor, "n l"]
    visemes: Float[Tensor, "n l 4"]


class SyntheticSpeech(LoopyDataModule):
    """Random voices in random rooms; one sound in seven holds no speech, and no mouth opens.

    Args:
        seconds: Length of a sound.
        batch_size: Samples in a batch, on each rank.
        validation_batches: Batches of the held-out set.
        **loader: See `LoopyDataModule`.
    """

    def __init__(
        self,
        *,
        seconds: float = 4.0,
        batch_size: int = 6,
        validation_batches: int = 8,
        **loader: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_batches=validation_batches, **loader)
        self.seconds = seconds

    def make(self, generator: torch.Generator) -> Utterances:
        """Speaks one batch."""
        return Utterances(*map(torch.stack, zip(*self._sounds(generator), strict=True)))

    def _sounds(self, generator: torch.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
        kinds, shares = list(_KINDS), torch.tensor(list(_KINDS.values()))
        drawn = torch.multinomial(shares, self.batch_size, replacement=True, generator=generator)
        seeds = torch.randint(2**62, (self.batch_size,), generator=generator)
        sounds = []
        for seed, index in zip(seeds.tolist(), drawn.tolist(), strict=True):
            talk = random_talk(seed, seconds=self.seconds, kind=kinds[index])
            audio = augment(talk.audio, generator)
            audio = (audio - audio.mean()) * (audio.var(correction=0) + 1e-7).rsqrt()
            truth = (talk.phonemes, self.seconds)
            visemes = viseme_tracks(*truth, fps=RATE_HZ)
            sounds.append((audio, phoneme_labels(*truth, rate_hz=RATE_HZ), visemes))
        return sounds


def small_wav2vec2(*, width: int = 160, layers: int = 4, heads: int = 4) -> Wav2Vec2Model:
    """A wav2vec2 of 1.2 M parameters at the usual 50 vectors a second.

    Args:
        width: Of the transformer.
        layers: Of the transformer.
        heads: Of its attention.
    """
    config = Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=384,
        conv_dim=(64, 64, 96, 96, 96, 128, 128),
        num_conv_pos_embeddings=31,
        num_conv_pos_embedding_groups=8,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
        apply_spec_augment=False,
    )
    return Wav2Vec2Model(config)


class AudioEncoderStage(pl.LightningModule):
    """Trains wav2vec2 on frames whose phoneme and mouth shape are known.

    Loss: cross entropy of phonemes at the last layer + 0.3 x the same at the middle layer + 4 x
    smooth L1 of the four viseme tracks. The heads that read these are not part of the encoder.

    Args:
        network: The encoder, built by its config.
        learning_rate: At the peak of a warm cosine over `max_steps`.
        warmup_steps: Steps until the peak.
    """

    def __init__(
        self, network: Wav2Vec2Model, *, learning_rate: float = 1.5e-3, warmup_steps: int = 50
    ) -> None:
        super().__init__()
        self.network = network
        width = network.config.hidden_size
        self.last_phonemes = nn.Linear(width, len(PHONEMES))
        self.middle_phonemes = nn.Linear(width, len(PHONEMES))
        self.visemes = nn.Linear(width, VISEMES)
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def forward(
        self, audio: Float[Tensor, "n samples"]
    ) -> tuple[Float[Tensor, "n l p"], Float[Tensor, "n l p"], Float[Tensor, "n l 4"]]:
        """Phoneme logits of the last and of the middle layer, and viseme tracks."""
        layers = self.network(audio, output_hidden_states=True).hidden_states
        last, middle = layers[-1], layers[len(layers) // 2]
        visemes = self.visemes(last).sigmoid()
        phonemes = self.last_phonemes(last).float(), self.middle_phonemes(middle).float()
        return *phonemes, visemes.float()

    def training_step(self, batch: Utterances, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        last, middle, visemes = self(batch.audio)
        labels = batch.phonemes[:, : last.shape[1]].flatten()  # the last 20 ms have no vector
        phonemes = functional.cross_entropy(last.flatten(0, 1), labels)
        early = functional.cross_entropy(middle.flatten(0, 1), labels)
        shapes = functional.smooth_l1_loss(visemes, batch.visemes[:, : last.shape[1]], beta=0.1)
        loss = phonemes + 0.3 * early + 4 * shapes
        losses = {"loss": loss, "loss_phonemes": phonemes, "loss_visemes": shapes}
        self.log_dict(losses, batch_size=len(batch.audio))
        return loss

    def validation_step(self, batch: Utterances, batch_idx: int) -> None:
        """Logs accuracy and correlations in speech, and the opening where nobody speaks."""
        last, _, visemes = self(batch.audio)
        labels, truth = (x[:, : last.shape[1]] for x in (batch.phonemes, batch.visemes))
        right = (last.argmax(-1) == labels).float()
        speech = (labels > 0).float().mean(1) > SPEECH_FRAMES
        heard = ((last.argmax(-1) > 0) == (labels > 0)).float()
        scores = {
            "val/phoneme_accuracy": _mean(right[speech]),
            "val/speech_or_silence": _mean(heard[speech]),
        }
        for column, name in enumerate(("open", "wide", "round", "teeth")):
            pair = torch.stack([visemes[speech][..., column], truth[speech][..., column]])
            r = torch.corrcoef(pair.flatten(1))[0, 1] if speech.any() else right.new_zeros(())
            scores[f"val/{name}_r"] = r
        # Every rank logs every name in every batch, else one would wait for what another leaves
        # out; a batch of nothing has no weight. lightning rounds the mean weight of all ranks
        # down: times their number it is whole.
        spoken, silent = (self.trainer.world_size * int(each.sum()) for each in (speech, ~speech))
        self.log_dict(scores, batch_size=spoken, prog_bar=True, sync_dist=True)
        opening = _mean(visemes[~speech][..., 0])
        self.log("val/open_in_noise", opening, batch_size=silent, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a warm cosine over the whole run."""
        return scheduled(
            torch.optim.AdamW(self.parameters(), self.learning_rate),
            warmup_steps=self.warmup_steps,
            total_steps=self.trainer.max_steps,
        )

    def export(self, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
        """Saves `folder`/audio_encoder in transformers' form, without the heads.

        Args:
            folder: A model folder, whole or to be filled.
            dtype: Precision of the file.
        """
        save_part(self.network, folder, "audio_encoder", dtype=dtype)


def _mean(values: Tensor) -> Float[Tensor, ""]:
    """Their mean; 0 of none."""
    return values.mean() if values.numel() else values.new_zeros(())
