"""One run of an ablation, judged: the same held-out talks and clips for every variant and seed.

::

    out/                        of all runs
      truth/NAME.mp4            held-out toons, written once
      truth/features/real/...   their features
      VARIANT/seed_N/           a run
        videos/NAME.mp4         what its model made of portrait and voice
        strips/NAME.jpg         frames of both
        results.json            all figures; `loopy evaluate --compare` takes two such folders

A process of its own judges each run (`python -m loopy.evaluation.ablation.judge --help`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import nn

from loopy.data.media.finished import is_finished, open_result
from loopy.drafts import existing_folder
from loopy.evaluation.features.extract import cached_tensor
from loopy.evaluation.features.networks import EvaluationModels, build_extractors
from loopy.evaluation.features.toon import toon_extractors
from loopy.evaluation.table.columns import COLUMNS, TOON_COLUMNS, Column
from loopy.evaluation.table.evaluate import MADE, REAL, Pair, VideoEvaluator, mean_figure
from loopy.evaluation.table.results import ColumnInfo, Results, VideoResult
from loopy.evaluation.toon.conditions import condition_sensitivity, held_out_clips
from loopy.evaluation.toon.measure import true_frames
from loopy.evaluation.toon.rows import POSE
from loopy.evaluation.toon.talks import Scene, held_out_portrait
from loopy.evaluation.toon.tracks import correlation, position_jumps, variance
from loopy.metrics.beat import smoothed
from loopy.models.tracker import OUTPUTS
from loopy.models.weights import fingerprint
from loopy.pipeline import LoopyPipeline
from loopy.segments import SegmentLayout
from loopy.synthetic.face import CONTROLS

TEST_SET, FIRST = "held-out toon talks", 3000
"""Number of the first talk; the toon benchmark and its clips have others."""
VERSION, FILMS = 2, 1
"""Of the figures below and of the films: raised where they change, they are made again."""

SHOWN = (
    "Sync-C (toon)", "Sync-D (toon)", "FVD (toon)", "FID (toon)", "E-FID (toon)", "Smooth, linear",
    "Identity (toon)", "Glo (toon)", "Exp (toon)", "Colour drift", "Sharpness drift",
)  # fmt: skip
"""Columns of the paper's tables that toons have."""

OPENING = ColumnInfo(
    "Mouth opening, r", "higher", "", "correlation with the truth; a still mouth counts as 0"
)
BORDER = ColumnInfo(
    "Clip border",
    "truth",
    "x inside",
    "steps of the head between means of 3 frames at borders of clips, over those inside",
)
GROWTH = "growth of the loss of held-out clips with mismatched"
MISMATCHED = {
    "past": ColumnInfo("Past, mismatched", "", "growth", f"{GROWTH} motion frames"),
    "voice": ColumnInfo("Voice, mismatched", "", "growth", f"{GROWTH} voice, at the mouth"),
    "keys": ColumnInfo("Voice, in the keys", "", "growth", "of this, in the audio attention alone"),
    "latents": ColumnInfo("Voice, in A2L", "", "growth", "of this, in audio-to-latents alone"),
}


def judge_run(
    *,
    model: Path,
    out: Path,
    shared: Path,
    name: str,
    talks: int = 8,
    seconds: float = 4.0,
    clips: int = 8,
    seed: int = 0,
) -> None:
    """Films the talks, measures them and the loss with mismatched past and voice: results.json.

    Args:
        model: A model folder.
        out: The folder of the run; made videos stay there.
        shared: The folder of the true videos, for all runs.
        name: Of the run, in the results.
        talks: How many held-out talks; an interval needs 6.
        seconds: Length of each.
        clips: How many held-out clips whose sound and past are exchanged; 2 at least.
        seed: Of talks, clips, noise and intervals.

    Raises:
        LoopyError: The model does not load, or nothing can be written.
    """
    torch.set_flush_denormal(True)
    pipe = LoopyPipeline.from_pretrained(model)
    extractors = build_extractors(EvaluationModels()) | toon_extractors()
    known = {column.name: column for column in (*COLUMNS, *TOON_COLUMNS)}
    columns = [known[shown] for shown in SHOWN]
    evaluator = VideoEvaluator(out, extractors, columns, shared)
    scenes = [
        Scene("ablation", number, "speech", seconds, seed) for number in range(FIRST, FIRST + talks)
    ]
    pairs = _filmed(pipe, scenes, out, shared)
    results = evaluator.results(pairs, model=name, test_set=TEST_SET, seed=seed, total=talks)
    for column in columns:
        _share(evaluator, column, results)
    for scene, video in zip(scenes, results.videos, strict=True):
        if not video.problem:
            _add_truth(evaluator, scene, video, clip_frames=pipe.settings.clip_frames)
    reach = max(SegmentLayout().past_frames, pipe.settings.contract.layout.past_frames)
    held_out = held_out_clips(pipe, clips=clips, seed=seed, past_frames=reach)
    grown = {
        MISMATCHED[part].name: each for part, each in condition_sensitivity(pipe, held_out).items()
    }
    videos = list(results.videos)
    for i in range(clips):
        values = {part: float(each[i]) for part, each in grown.items()}
        videos.append(VideoResult(f"clip {i:04d}", values))
    more = (OPENING, BORDER, *MISMATCHED.values())
    for figures, each in (
        (results.figures, [video.values for video in videos]),
        (results.real_figures, [video.real for video in results.videos]),
    ):
        found = {column.name: mean_figure(each, column.name, seed) for column in more}
        figures |= {column: figure for column, figure in found.items() if figure is not None}
    lacking = [column.name for column in MISMATCHED.values() if column.name not in grown]
    judged = {"talks": talks, "seconds": seconds, "clips": clips, "seed": seed}
    replace(
        results,
        columns=(OPENING, *results.columns, *more[1:]),
        videos=tuple(videos),
        missing=results.missing | dict.fromkeys(lacking, "not available: the model has no such"),
        judges=results.judges | {"talks": judged | {"past": reach, "version": VERSION}},
    ).write(out)


def _filmed(
    pipe: LoopyPipeline, scenes: Sequence[Scene], out: Path, shared: Path
) -> Iterator[Pair]:
    """Makes each video when it is asked for, unless it is there; the true one once for all runs."""
    settings, size_px = asdict(pipe.settings), pipe.settings.size_px
    weights = fingerprint(nn.ModuleList([pipe.network, pipe.audio_encoder, pipe.vae]))
    for scene in scenes:
        talk, name = scene.talk(), f"{scene.number:04d}"
        portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
        stream = pipe.stream(
            pipe.prepare(portrait, crop="center"), talk.audio, seed=scene.noise_seed
        )
        real, made = existing_folder(shared) / f"{name}.mp4", out / "videos" / f"{name}.mp4"
        existing_folder(made.parent)
        about = {"version": FILMS, "scene": asdict(scene), "size_px": size_px}
        for path, frames, record in (
            (real, true_frames(talk, size_px=size_px), about),
            (made, stream, about | {"weights": weights, "settings": settings}),
        ):
            if not is_finished(path, record):
                with open_result(path, record, sound=talk.audio) as writer:
                    for part in frames:
                        writer.write(part)
        yield Pair(name, made, real, portrait)


def _share(evaluator: VideoEvaluator, column: Column, results: Results) -> None:
    """Shares the distance of a set out among its videos, so that it can be compared talk by talk.

    Jackknife pseudo-values (Tukey 1958): their mean is the distance, their spread that of the
    distance. A video's is n - 1 times what the distance loses without it, around that mean.
    """
    fit = [video for video in results.videos if not video.problem]
    if column.kind not in ("frames", "rows") or column.name not in results.figures or len(fit) < 3:
        return
    rests = [[video for video in fit if video is not other] for other in fit]
    figures = [evaluator.set_figure(column, rest, results.seed) for rest in rests]
    values = [figure.value for figure in figures if figure is not None]
    if len(values) < len(fit):  # without one of them there is no figure to share out
        return
    mean = sum(values) / len(values)
    for video, value in zip(fit, values, strict=True):
        pull = (len(fit) - 1) * (mean - value)
        video.values[column.name] = results.figures[column.name].value + pull


def _add_truth(
    evaluator: VideoEvaluator, scene: Scene, video: VideoResult, *, clip_frames: int
) -> None:
    """Adds the figures that need the talk's truth."""
    opening = scene.talk().controls[:, CONTROLS.index("open")]
    pose = [OUTPUTS.index(name) for name in POSE]
    made, real = (
        cached_tensor(evaluator.cache_path(kind, video.name), "toon_tracks")
        for kind in (MADE, REAL)
    )
    usual = variance(smoothed(real[:, pose])).sqrt().clamp(min=1e-6)
    for tracks, figures in ((made, video.values), (real, video.real)):
        r = correlation(opening, tracks[:, OUTPUTS.index("open")]).nan_to_num(0.0)
        jumps = position_jumps(tracks[:, pose] / usual, clip_frames=clip_frames)
        figures |= {OPENING.name: float(r), BORDER.name: jumps.border / jumps.inside}


if __name__ == "__main__":
    auto_cli(judge_run, as_positional=False)
