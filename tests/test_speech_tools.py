"""What trains the audio encoder of people: examples, targets and the student."""

import random

import pytest
import torch

pytest.importorskip("onnxruntime")

from tools.speech.teacher import OUR_MIDDLE, OUR_STRIDE, Moonshine
from tools.speech.train import (
    MEASURES,
    SAMPLES,
    TEACHER_WIDTH,
    VECTORS,
    Example,
    Student,
    augmented,
)
from tools.speech.voices import sentences


def example(mouth):
    return Example(
        torch.randn(2, SAMPLES),
        torch.randn(2, VECTORS, TEACHER_WIDTH),
        torch.ones(2, VECTORS, 1),
        torch.full((2, VECTORS // 2, MEASURES), mouth),
    )


def test_the_student_learns_from_both_targets():
    student = Student()
    heard, mouth = student.loss(example(1.0))
    (heard + mouth).backward()
    layers = [name for name, p in student.named_parameters() if p.grad is None]
    assert layers in ([], ["encoder.masked_spec_embed"])  # which only masking would use
    _, unknown = student.loss(example(torch.nan))
    assert unknown == 0


def test_a_vector_is_of_the_same_moment_as_ours():
    """A teacher whose features are the times of its vectors."""

    class Clock:
        def run(self, _, given):
            count = (given["input_values"].shape[1] - 895) // 384 + 1
            return [(torch.arange(count) * 384.0 + 447)[None, :, None].numpy()]

    teacher = Moonshine.__new__(Moonshine)
    teacher._network = Clock()
    times = teacher(torch.zeros(16_000))[:, 0]
    ours = torch.arange(len(times)) * OUR_STRIDE + OUR_MIDDLE
    inside = (ours >= 447) & (ours <= times.max())
    assert len(times) == 49  # wav2vec2's own count
    assert torch.allclose(times[inside], ours[inside].float())


def test_a_sound_is_stretched_and_what_it_says_stays():
    draw = random.Random(0)
    for _ in range(12):
        clean, noisy, rate = augmented(torch.randn(8000), draw)
        assert len(clean) == len(noisy) == int(8000 / rate)
        assert noisy.isfinite().all()


def test_sentences_are_words_without_signs():
    found = sentences(random.Random(0))
    for _ in range(20):
        assert (
            next(found)
            .replace(" ", "")
            .replace(",", "")
            .replace(".", "")
            .replace("'", "")
            .isalpha()
        )
