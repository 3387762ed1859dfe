"""Independent reference: the package python_speech_features."""

import numpy as np
import pytest
import python_speech_features
import torch

from loopy.metrics.mfcc import mfcc


@pytest.mark.parametrize("samples", [100, 400, 401, 8000, 12345])
def test_equals_python_speech_features(samples):
    """Reference: python_speech_features.mfcc, on the 16-bit sound that SyncNet's authors read."""
    noise = np.random.default_rng(0).normal(0, 3000, samples).astype(np.int16)
    ours = mfcc(torch.from_numpy(noise / 32768))
    theirs = python_speech_features.mfcc(noise, 16_000)
    assert ours.shape == theirs.shape
    assert ours.numpy() == pytest.approx(theirs, abs=1e-4)


def test_silence_and_a_tone_equal_it_too():
    """Reference: python_speech_features.mfcc; silence has a log of nothing in every band."""
    tone = (8000 * np.sin(np.arange(16_000) * 0.3)).astype(np.int16)
    tone[:6000] = 0
    ours = mfcc(torch.from_numpy(tone / 32768))
    assert torch.isfinite(ours).all()
    assert ours.numpy() == pytest.approx(python_speech_features.mfcc(tone, 16_000), abs=1e-3)
