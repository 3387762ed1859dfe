"""Figures of a person's model on tracks of which the answer is known."""

from dataclasses import replace

import pytest
import torch

from loopy.evaluation.person.films import MeasuredSentence, Reading
from loopy.evaluation.person.rows import person_results, person_sheet, table

FRAMES = 75


def reading(seed, *, late=0, head=1.0, likeness=0.9):
    draw = torch.Generator().manual_seed(seed)
    opening, width, rounding = torch.rand(3, FRAMES + 9, generator=draw)
    moves = torch.randn(FRAMES, 5, generator=draw).cumsum(0)
    return Reading(
        *(track[9 - late :][:FRAMES] for track in (opening, width, rounding)),
        head=moves * head,
        found=1.0,
        likeness=torch.full((FRAMES,), likeness),
        colours=torch.rand(1, 4, 3, generator=draw).expand(FRAMES, 4, 3),
        shown=torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
    )


def results(**changes):
    made = {"likeness": 0.95} | changes
    sentences = [
        MeasuredSentence(
            str(n),
            {
                "truth": reading(n, likeness=0.95),
                "vae": reading(n),
                "made": reading(n, **made),
                "mismatched": reading(n + 1),
            },
        )
        for n in range(5)
    ]
    return sentences, {row.name: row for row in person_results(sentences, sentences)}


def test_the_truth_reaches_every_threshold():
    _, rows = results()
    assert rows["opening: r with truth"].figures["made"].value == pytest.approx(1)
    assert all(row.reached for row in rows.values() if row.threshold is not None)
    assert rows["opening: r with truth"].figures["mismatched"].value < 0.3


def test_a_late_mouth_is_told():
    _, rows = results(late=3)
    assert rows["opening: frames of lag"].figures["made"].value == 3
    assert rows["opening: r with truth"].reached is False


def test_a_stiff_head_and_another_face_are_told():
    _, rows = results(head=0.5, likeness=0.8)
    assert rows["head motion: share of truth"].figures["made"].value == pytest.approx(0.25)
    assert rows["identity: share of ceiling"].figures["made"].value == pytest.approx(0.8 / 0.95)
    assert rows["identity: share of ceiling"].reached is False


def test_without_a_network_that_knows_faces_nothing_is_said_of_identity():
    sentences, _ = results()
    blind = [
        replace(s, films={n: f._replace(likeness=torch.zeros(0)) for n, f in s.films.items()})
        for s in sentences
    ]
    rows = {row.name: row for row in person_results(blind, blind)}
    assert rows["identity: cosine"].figures == {}
    assert "opening: r with truth" in table([*rows.values()])
    assert person_sheet(blind).size[0] == 2 * 8
