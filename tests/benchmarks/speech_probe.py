"""How much of real mouths a speech encoder hears: `python tests/benchmarks/speech_probe.py`.

Ridge regression from features of five frames to the opening of the lips that MediaPipe reads, over
the eleven clips of ten people in the GRID corpus (`--clips`), each clip predicted from the others.
The penalty is the best one on the clips that are not predicted. A table: r of each clip, and their
mean with a 95 % interval over clips. Needs `loopy faces install`.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from scipy.stats import t
from torch import Tensor
from transformers import Wav2Vec2Model

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames
from loopy.faces.mesh import FaceMesh
from loopy.faces.networks import models_folder
from loopy.models import AudioEncoder
from loopy.timing import AudioWindow, sample_span

ROOT = Path(__file__).parents[2]
PENALTIES = torch.logspace(0, 6, 13).tolist()
INNER_LIPS, EYES = (13, 14), (33, 263)

Clip = tuple[Tensor, Tensor]
"""Features of each frame (f d), and openings (f)."""


def openings(video: Path, mesh: FaceMesh) -> Tensor:
    """How far the inner lips are apart in each frame, in distances of the outer eye corners."""
    faces = [
        next(iter(found.values()))
        for found in mesh.follow(map(torch.from_numpy, iterate_frames(video)))
    ]
    points = torch.stack([face.mesh for face in faces])
    lips, eyes = ((points[:, a] - points[:, b]).norm(dim=-1) for a, b in (INNER_LIPS, EYES))
    return lips / eyes


def log_energy(sound: Tensor) -> Tensor:
    """One number a frame (f 1)."""
    frames = len(sound) // sample_span(0)[1]
    return sound[: frames * sample_span(0)[1]].reshape(frames, -1).square().mean(1, True).log1p()


def windows(features: Tensor, frames: int) -> Tensor:
    """Features of a frame, two before and two after, side by side (f 5 d)."""
    places = AudioWindow().indices(range(frames), len(features))
    return features[places.clamp(max=len(features) - 1)].flatten(1)


def predicted(clips: Sequence[Clip], held: int, penalty: float) -> Tensor:
    """Openings of a clip, from the ridge that the others give; each clip about its own mean."""
    others = [clip for index, clip in enumerate(clips) if index != held]
    x, y = torch.cat([x for x, _ in others]), torch.cat([y - y.mean() for _, y in others])
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, new = (x - mean) / std, (clips[held][0] - mean) / std
    kernel = x @ x.T  # fewer frames than features
    return new @ x.T @ torch.linalg.solve(kernel + penalty * torch.eye(len(x)), y)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r."""
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def rows(clips: Sequence[Clip]) -> list[float]:
    """R of each clip; its penalty is the one that predicts the other clips best."""
    table = torch.tensor(
        [
            [correlation(predicted(clips, held, p), clips[held][1]) for held in range(len(clips))]
            for p in PENALTIES
        ]
    )
    best = [
        table[:, [i for i in range(len(clips)) if i != held]].mean(1).argmax().item()
        for held in range(len(clips))
    ]
    return [table[int(best[held]), held].item() for held in range(len(clips))]


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, nargs="+", required=True, help="videos")
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="further ones")
    given = parser.parse_args(words)
    mesh = FaceMesh(models_folder(), iris=False)
    mouths = [openings(clip, mesh) for clip in given.clips]
    sounds = [read_audio(clip) for clip in given.clips]
    hearing: dict[str, Callable[[Tensor], Tensor]] = {"log energy": log_energy}
    for folder in [ROOT / "loopy/assets/toon/audio_encoder", *given.encoder]:
        encoder = AudioEncoder(Wav2Vec2Model.from_pretrained(folder, dtype=torch.float32))
        hearing[str(folder)] = lambda sound, e=encoder: e.features(sound).flatten(1)
    for name, features in hearing.items():
        heard = [features(sound) for sound in sounds]
        clips = [(windows(x, len(y)), y) for x, y in zip(heard, mouths, strict=True)]
        found = torch.tensor(rows(clips))
        half = t.ppf(0.975, len(found) - 1) * (found.std() / len(found) ** 0.5).item()
        each = " ".join(f"{r:.2f}" for r in found.tolist())
        print(f"{name}: r {found.mean():.2f} +- {half:.2f} ({each})")


if __name__ == "__main__":
    main()
