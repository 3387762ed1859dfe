"""A batch is a function of its number."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from loopy.errors import ConfigurationError
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS
from loopy.training.autoencoder import SyntheticFaces, random_controls
from loopy.training.datamodule import LoopyDataModule, ResumableSampler
from loopy.training.speech import SyntheticSpeech


def numbers(source):
    return torch.randint(2**62, (2,), generator=source)


class Numbers(LoopyDataModule):
    def make(self, generator):
        return numbers(generator)


def data(**changes):
    return Numbers(**({"batch_size": 2, "validation_batches": 5} | changes))


def test_a_batch_depends_on_its_number_alone():
    forward = [data().batches()("training", number, 0, 1) for number in range(9)]
    backward = [data().batches()("training", number, 0, 1) for number in reversed(range(9))]
    assert torch.equal(torch.stack(forward), torch.stack(backward[::-1]))


@pytest.mark.parametrize("change", [{"seed": 1}, {"purpose": "validation"}, {"rank": 1}])
def test_other_batches_have_nothing_in_common(change):
    asked = {"purpose": "training", "rank": 0, "seed": 0}
    seen = set()
    for choice in (asked, asked | change):
        source = data(seed=choice["seed"])
        for number in range(9):
            values = source.batches()(choice["purpose"], number, choice["rank"], 2)
            seen |= {int(x) for x in values}
    assert len(seen) == 36


def order(place=0, **data_signature):
    return ResumableSampler(7, place=lambda: place, data_signature={"seed": 0, **data_signature})


def test_a_resumed_order_is_the_rest():
    resumed = order()
    resumed.load_state_dict(order(place=3).state_dict())
    assert list(resumed) == [3, 4, 5, 6]
    assert len(resumed) == 7


def test_a_changed_order_is_refused():
    with pytest.raises(ConfigurationError, match="with ranks 1, now 2: set it back") as refused:
        order(ranks=2).load_state_dict(order(ranks=1).state_dict())
    assert "seed" not in str(refused.value)  # it is the same


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    source = data(workers=workers)
    source.trainer = pl.Trainer(accelerator="cpu", logger=False, barebones=True)
    loaded = list(source.val_dataloader())
    assert torch.equal(torch.stack(loaded), torch.stack(list(source.held_out())))


@pytest.mark.filterwarnings("ignore:.*distributed:UserWarning")
def test_batches_are_shared_out_once():
    """lightning would hand each rank a shuffled share of the batches that are its own already."""
    for wrap, devices in ((True, 1), (True, 2), (False, 2)):
        source = data()
        source.trainer = pl.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp",
            use_distributed_sampler=wrap,
            logger=False,
            barebones=True,
        )
        if wrap:
            with pytest.raises(ConfigurationError, match="use_distributed_sampler=false"):
                source.setup("fit")
        else:
            source.setup("fit")


def test_an_endless_run_is_refused():
    source = data()
    source.trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, barebones=True)
    with pytest.raises(ConfigurationError, match="max_steps"):
        source.train_dataloader()


@pytest.mark.parametrize(
    "limit",
    [
        {"limit_train_batches": 3},
        {"limit_train_batches": 1},  # one batch, which equals the share 1.0
        {"limit_train_batches": 0.5},
        {"overfit_batches": 2},
    ],
    ids=str,
)
def test_an_epoch_that_ends_before_the_run_is_refused(limit):
    """The next one would begin again at batch 0, with the same noise."""
    source = data()
    source.trainer = pl.Trainer(
        accelerator="cpu", max_steps=4, logger=False, barebones=True, **limit
    )
    with pytest.raises(ConfigurationError, match=r"epoch would end.*set --trainer\.max_steps"):
        source.train_dataloader()


def test_a_trial_run_is_welcome():
    source = data()
    source.trainer = pl.Trainer(accelerator="cpu", fast_dev_run=2, logger=False)
    assert len(source.train_dataloader()) == 2


@pytest.mark.parametrize(
    "source",
    [
        partial(SyntheticFaces, size_px=32, batch_size=2, validation_batches=2),
        partial(SyntheticSpeech, seconds=0.5, batch_size=3, validation_batches=2),
    ],
)
def test_samples_repeat_only_by_seed(source):
    first, again, other = source(), source(), source(seed=1)
    for a, b, c in zip(first.held_out(), again.held_out(), other.held_out(), strict=True):
        for left, right in zip(a, b, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
        assert not torch.equal(a[0], c[0])


def test_every_third_mouth_is_shut():
    controls = random_controls(600, generator(0))
    shut = controls[:, CONTROLS.index("open")] == 0
    assert 0.28 < shut.float().mean() < 0.39


def test_speech_is_normalised_and_labelled():
    batch = next(SyntheticSpeech(seconds=1.0, batch_size=6).held_out())
    assert batch.audio.shape == (6, 16_000)
    assert batch.phonemes.shape == (6, 50)
    assert batch.visemes.shape == (6, 50, 4)
    assert batch.audio.mean(1).abs().max() < 1e-4
    assert batch.audio.std(1).max() < 1.01
