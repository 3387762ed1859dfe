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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from jsonargparse import auto_cli
from torch import Tensor, nn
from tqdm import tqdm

from loopy.data.media.finished import is_finished, open_result
from loopy.drafts import existing_folder
from loopy.evaluation.features.cache import cached_tensor
from loopy.evaluation.features.networks import EvaluationModels, build_extractors
from loopy.evaluation.features.toon import toon_extractors
from loopy.evaluation.table.columns import COLUMNS, TOON_COLUMNS, Column
from loopy.evaluation.table.evaluate import MADE, REAL, Pair, VideoEvaluator, mean_figure
from loopy.evaluation.table.results import ColumnInfo, Results, SetFigure, VideoResult
from loopy.evaluation.toon.conditions import HeldOutClips, condition_sensitivity
from loopy.evaluation.toon.measure import true_frames
from loopy.evaluation.toon.rows import POSE
from loopy.evaluation.toon.talks import Scene, held_out_portrait
from loopy.evaluation.toon.tracks import correlation, position_jumps, smoothed, variance
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


@dataclass(frozen=True)
class JudgeOptions:
    """What a run is judged on.

    Args:
        talks: How many held-out talks; an interval needs 6.
        seconds: Length of each.
        clips: How many held-out clips whose sound and past are exchanged; 2 at least.
        seed: Of talks, clips, noise and intervals.
    """

    talks: int = 8
    seconds: float = 4.0
    clips: int = 8
    seed: int = 0

    def scenes(self) -> list[Scene]:
        """The talks."""
        numbers = range(FIRST, FIRST + self.talks)
        return [Scene("ablation", each, "speech", self.seconds, self.seed) for each in numbers]


def judge_run(*, model: Path, out: Path, shared: Path, name: str, options: JudgeOptions) -> None:
    """Films the talks, measures them and the loss with mismatched past and voice: results.json.

    Args:
        model: A model folder.
        out: The folder of the run; made videos stay there.
        shared: The folder of the true videos, for all runs.
        name: Of the run, in the results.
        options: What it is judged on.

    Raises:
        LoopyError: The model does not load, or nothing can be written.
    """
    torch.set_flush_denormal(True)
    pipe = LoopyPipeline.from_pretrained(model)
    extractors = build_extractors(EvaluationModels()) | toon_extractors()
    known = {column.name: column for column in (*COLUMNS, *TOON_COLUMNS)}
    columns = [known[name] for name in SHOWN]
    evaluator = VideoEvaluator(out, extractors, columns, shared)
    scenes = options.scenes()
    pairs = tqdm(_filmed(pipe, scenes, out, shared), total=len(scenes), desc=name, unit="talk")
    results = evaluator.results(pairs, model=name, test_set=TEST_SET, seed=options.seed)
    for column in columns:
        _share(evaluator, column, results)
    talks = [
        _with_truth(evaluator, scene, video, clip_frames=pipe.settings.clip_frames)
        for scene, video in zip(scenes, results.videos, strict=True)
    ]
    reach = max(SegmentLayout().past_frames, pipe.settings.contract.layout.past_frames)
    clips = HeldOutClips(pipe, clips=options.clips, seed=options.seed, past_frames=reach)
    grown = {
        MISMATCHED[part].name: each
        for part, each in condition_sensitivity(pipe, clips.load(workers=0)).items()
    }
    asked = [
        VideoResult(f"clip {i:04d}", {part: float(values[i]) for part, values in grown.items()})
        for i in range(options.clips)
    ]
    more = (OPENING, BORDER, *MISMATCHED.values())
    lacking = [column.name for column in MISMATCHED.values() if column.name not in grown]
    made_figures = _figures(more, [video.values for video in (*talks, *asked)], options.seed)
    real_figures = _figures(more, [video.real for video in talks], options.seed)
    replace(
        results,
        columns=(OPENING, *results.columns, *more[1:]),
        videos=(*talks, *asked),
        figures=results.figures | made_figures,
        real_figures=results.real_figures | real_figures,
        missing=results.missing | dict.fromkeys(lacking, "not available: the model has no such"),
        judges=results.judges | {"talks": {**asdict(options), "past": reach, "version": VERSION}},
    ).write(out)


def _filmed(
    pipe: LoopyPipeline, scenes: Iterable[Scene], out: Path, shared: Path
) -> Iterator[Pair]:
    """Makes each video when it is asked for, unless it is there; the true one once for all runs."""
    settings = asdict(pipe.settings)
    size_px = pipe.settings.size_px
    weights = fingerprint(nn.ModuleList([pipe.network, pipe.audio_encoder, pipe.vae]))
    for scene in scenes:
        talk, name = scene.talk(), f"{scene.number:04d}"
        portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
        subject = pipe.prepare(portrait)
        real, made = shared / f"{name}.mp4", out / "videos" / f"{name}.mp4"
        about = {"version": FILMS, "scene": asdict(scene), "size_px": size_px}
        _write(real, true_frames(talk, size_px=size_px), talk.audio, about)
        frames = pipe.stream(subject, talk.audio, seed=scene.noise_seed)
        _write(made, frames, talk.audio, about | {"weights": weights, "settings": settings})
        yield Pair(name, made, real, portrait)


def _write(
    path: Path,
    parts: Iterable[UInt8[Tensor, "_n h w 3"]],
    sound: Float[Tensor, " samples"],
    record: dict[str, Any],
) -> None:
    if is_finished(path, record):
        return
    existing_folder(path.parent)
    with open_result(path, record, sound=sound) as writer:
        for part in parts:
            writer.write(part)


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


def _with_truth(
    evaluator: VideoEvaluator, scene: Scene, video: VideoResult, *, clip_frames: int
) -> VideoResult:
    """The same with what needs the talk's truth; a video that was not judged stays as it is."""
    if video.problem:
        return video
    opening = scene.talk().controls[:, CONTROLS.index("open")]
    pose = [OUTPUTS.index(name) for name in POSE]
    made, real = (
        cached_tensor(evaluator.cache_path(kind, video.name), "toon_tracks")
        for kind in (MADE, REAL)
    )
    usual = variance(smoothed(real[:, pose])).sqrt().clamp(min=1e-6)
    figures = []
    for tracks in (made, real):
        r = correlation(opening, tracks[:, OUTPUTS.index("open")]).nan_to_num(0.0)
        jumps = position_jumps(tracks[:, pose] / usual, clip_frames=clip_frames)
        figures.append({OPENING.name: float(r), BORDER.name: jumps.border / jumps.inside})
    return replace(video, values=video.values | figures[0], real=video.real | figures[1])


def _figures(
    columns: Sequence[ColumnInfo], values: Sequence[dict[str, float]], seed: int
) -> dict[str, SetFigure]:
    figures = {each.name: mean_figure(values, each.name, seed) for each in columns}
    return {name: figure for name, figure in figures.items() if figure is not None}


if __name__ == "__main__":
    auto_cli(judge_run, as_positional=False)
