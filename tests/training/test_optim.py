"""The learning rate over a run; AdamW with moments of 8 bits: less state, nearly the same steps."""

import sys

import pytest
import torch
from torch import nn

from loopy.errors import DependencyError
from loopy.training.optim import make_optimiser, warm_cosine

OPTIONS = {"learning_rate": 1e-2, "weight_decay": 0.01}


def trained(name, *, steps=20, optimiser=None):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 256))
    optimiser = make_optimiser(name, [weight], **OPTIONS)
    for _ in range(steps):
        optimiser.zero_grad()
        (weight - 1).square().sum().backward()
        optimiser.step()
    return weight.detach(), optimiser


def test_the_rate_rises_and_falls():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 2.0)
    schedule = warm_cosine(optimizer, warmup_steps=4, total_steps=12)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1, 1.5, 2, 2])
    assert rates[8] == pytest.approx(1)
    assert rates[12] == pytest.approx(0)


def test_eight_bits_take_a_quarter_of_the_state_and_nearly_the_same_way():
    pytest.importorskip("bitsandbytes")
    ours, optimiser = trained("adamw_8bit")
    theirs, _ = trained("adamw")
    begun, _ = trained("adamw", steps=0)
    assert (ours - theirs).abs().mean() < 0.05 * (ours - begun).abs().mean()
    state = optimiser.state_dict()["state"][0]["__bnb_optimizer_quant_state__"].values()
    assert sum(each.nbytes for each in state if torch.is_tensor(each)) < 0.3 * 8 * ours.numel()


def test_eight_bits_go_on_from_a_file(tmp_path):
    """As lightning stores and reads it."""
    pytest.importorskip("bitsandbytes")
    whole, _ = trained("adamw_8bit", steps=6)
    half, optimiser = trained("adamw_8bit", steps=3)
    torch.save(optimiser.state_dict(), tmp_path / "state.pt")
    weight = nn.Parameter(half)
    again = make_optimiser("adamw_8bit", [weight], **OPTIONS)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        again.zero_grad()
        (weight - 1).square().sum().backward()
        again.step()
    assert torch.equal(weight, whole)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(DependencyError, match=r"loopy-portrait\[adam8bit\]"):
        trained("adamw_8bit")
