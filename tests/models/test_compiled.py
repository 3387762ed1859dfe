"""A compiled denoiser: the same video, one graph for all clips."""

import pytest
import torch

from loopy.diffusion.options import SamplingOptions


def sound(seconds, seed=0):
    return 0.1 * torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def counted(monkeypatch):
    """torch.compile without its code generator, and the graphs that it was asked for."""
    graphs, compiler = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def counting(function, **options):
        options.pop("mode")
        return compiler(function, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", counting)
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.compile
def test_all_clips_of_all_videos_have_the_same_graphs(make_pipeline, counted):
    """Guided steps and others, with the past of a portrait held still: two graphs."""
    pipe = make_pipeline(contract={"static_history": True})
    portrait = torch.zeros(16, 16, 3, dtype=torch.uint8)
    subject, options = pipe.prepare(portrait, crop="none"), SamplingOptions(guidance_every=2)
    expected = torch.cat(list(pipe.stream(subject, sound(0.5), options=options)))
    pipe.network.compile_denoiser()
    made = torch.cat(list(pipe.stream(subject, sound(0.5), options=options)))
    assert torch.equal(made, expected)
    assert len(counted) == 2
    with torch.compiler.set_stance("fail_on_recompile"):
        other = pipe.stream(subject, sound(2, seed=1), seed=5, options=options)
        assert sum(len(clip) for clip in other) == 50
    assert len(counted) == 2


@pytest.mark.slow
@pytest.mark.compile
def test_a_past_that_fills_up_asks_for_two_graphs_more(make_pipeline, counted):
    pipe = make_pipeline()
    subject = pipe.prepare(torch.zeros(16, 16, 3, dtype=torch.uint8), crop="none")
    expected = torch.cat(list(pipe.stream(subject, sound(1))))
    pipe.network.compile_denoiser()
    assert torch.equal(torch.cat(list(pipe.stream(subject, sound(1)))), expected)
    assert len(counted) == 3  # without a past, with a part of it, with all of it
