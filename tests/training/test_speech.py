"""What the audio encoder's stage says of held-out utterances."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from loopy.synthetic.visemes import PHONEMES
from loopy.training.speech import AudioEncoderStage, Utterances, small_wav2vec2


def utterances(*, speech):
    labels = torch.randint(1, len(PHONEMES), (2, 50)) if speech else torch.zeros(2, 50).long()
    return Utterances(torch.randn(2, 16_000), labels, torch.rand(2, 50, 4))


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler`")
def test_ranks_with_unlike_batches_are_judged_like_one():
    """One utterance of speech on the first, two on the second."""
    stage = AudioEncoderStage(small_wav2vec2(width=16, layers=2, heads=2))
    one, two, silent = *(utterances(speech=True) for _ in range(2)), utterances(speech=False)
    half = Utterances(
        *(
            torch.cat([getattr(each, name)[:1] for each in (one, silent)])
            for name in ("audio", "phonemes", "visemes")
        )
    )

    def judged(**ranks):
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **ranks,
        )
        loader = DataLoader([half, two], batch_size=None)
        [result] = trainer.validate(stage, loader, verbose=False)
        return result

    alone, together = judged(), judged(devices=2, strategy="ddp_fork")
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_batch_without_speech_has_no_say_in_figures_of_speech():
    """And each name is logged in each batch: ranks wait for each other's figures."""
    stage = AudioEncoderStage(small_wav2vec2(width=16, layers=2, heads=2))
    speaking, silent = utterances(speech=True), utterances(speech=False)

    def judged(*batches):
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        loader = DataLoader(list(batches), batch_size=None)
        [result] = trainer.validate(stage, loader, verbose=False)
        return result

    alone, both = judged(speaking), judged(speaking, silent)
    assert alone.keys() == both.keys()
    for name in ("phoneme_accuracy", "speech_or_silence", "open_r", "teeth_r"):
        assert both[f"val/{name}"] == pytest.approx(alone[f"val/{name}"], abs=1e-6)
    assert 0 < both["val/open_in_noise"] < 1
