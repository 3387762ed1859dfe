"""Trains the audio encoder on what a teacher hears, and on how real mouths move.

::

    python -m tools.speech.train --sounds sounds --encoder encoder_model.ort --out runs/speech \
        --clips s1/*.mpg --steps 6000

The student is a `Wav2Vec2Model` of 2.2 million weights. Its last layer predicts the teacher's
features of the same sound without noise, and, for the clips, four measures of the mouth read by
`loopy.faces`. Run again, it goes on from its last checkpoint. The clips that
`tests/benchmarks/speech_probe.py` measures are not to be among them.
"""

import argparse
import math
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import Wav2Vec2Config, Wav2Vec2Model

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames
from loopy.faces.mesh import FaceMesh
from loopy.faces.networks import models_folder
from loopy.timing import SAMPLE_RATE_HZ
from tools.speech.teacher import OUR_STRIDE, Moonshine
from tools.speech.voices import FULL_SCALE

VECTORS = 145
"""Of an example: 2.9 s."""
SAMPLES = (VECTORS - 1) * OUR_STRIDE + 400
TEACHER_WIDTH, MEASURES = 288, 4
PAIRS = ((13, 14), (61, 291), (0, 17), (1, 152))
"""Points of the mesh whose distances are the measures: opening, width, outer height, chin."""
EYES = (33, 263)
REAL, MOUTH_WEIGHT = 0.3, 0.3
"""Share of examples that are of real clips, and the weight of their loss."""
SIZES: dict[str, Any] = {
    "hidden_size": 192, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 512,
    "conv_dim": (64, 96, 128, 128, 128, 160, 160), "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
}  # fmt: skip
NO_DROPOUT = (
    *("attention_dropout", "hidden_dropout", "feat_proj_dropout", "activation_dropout"),
    "layerdrop",
)


class Example(NamedTuple):
    """One stretch of sound.

    Attributes:
        heard: With noise, mean 0 and variance 1.
        features: The teacher's, of the sound without noise.
        known: One where there are such.
        mouth: Measures at 25 Hz; NaN where none are known.
    """

    heard: Float[Tensor, "samples"]
    features: Float[Tensor, "v 288"]
    known: Float[Tensor, "v 1"]
    mouth: Float[Tensor, "f 4"]


def mouths(video: Path, mesh: FaceMesh) -> Float[Tensor, "f 4"]:
    """The measures of each frame, in distances of the outer eye corners; NaN without a face."""
    found = mesh.follow(map(torch.from_numpy, iterate_frames(video)))
    nobody = torch.full((478, 3), torch.nan)
    points = torch.stack([next((f.mesh for f in faces.values()), nobody) for faces in found])
    eyes = (points[:, EYES[0]] - points[:, EYES[1]]).norm(dim=-1)
    return torch.stack([(points[:, a] - points[:, b]).norm(dim=-1) / eyes for a, b in PAIRS], 1)


def augmented(sound: Tensor, draw: random.Random) -> tuple[Tensor, Tensor, float]:
    """The sound at another rate and through another filter and room; with noise; the rate."""
    rate = draw.choice((0.85, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.18))
    sound = functional.interpolate(sound[None, None], size=int(len(sound) / rate), mode="linear")
    sound = sound[0, 0]
    spectrum = torch.fft.rfft(sound)
    height = torch.linspace(0, 1, len(spectrum))
    filtered = draw.uniform(-1.2, 1.2) * (height - 0.2)
    for wave in range(1, 5):
        filtered = filtered + draw.gauss(0, 0.25) * torch.cos(math.pi * wave * height)
    sound = torch.fft.irfft(spectrum * filtered.exp(), n=len(sound))
    if draw.random() < 0.4:
        decay = torch.arange(int(SAMPLE_RATE_HZ * draw.uniform(0.05, 0.25))) / SAMPLE_RATE_HZ
        room = (-decay / draw.uniform(0.01, 0.06)).exp() * torch.randn(len(decay)) * 0.1
        room[0] = 1
        both = (torch.fft.rfft(each, n=2 * len(sound)) for each in (sound, room))
        sound = torch.fft.irfft(math.prod(both), n=2 * len(sound))[: len(sound)]  # pyright: ignore[reportArgumentType, reportCallIssue]
    if draw.random() < 0.4:
        return sound, sound, rate
    noise = torch.fft.rfft(torch.randn(len(sound)))
    if draw.random() < 0.5:
        noise = noise / (1 + torch.arange(len(noise)) / 50)
    noise = torch.fft.irfft(noise, n=len(sound))
    level = sound.std() / (noise.std() + 1e-9) * 10 ** (-draw.uniform(5, 30) / 20)
    return sound, sound + level * noise, rate


class Examples:
    """Draws batches of examples.

    Args:
        sounds: Folder of `tools.speech.voices`.
        clips: Videos of people.
        teacher: What is to be heard.
        seed: Of every draw.
    """

    def __init__(self, sounds: Path, clips: list[Path], teacher: Moonshine, seed: int) -> None:
        self._sounds, self._teacher = sorted(sounds.glob("*.npy")), teacher
        self._draw, mesh = random.Random(seed), FaceMesh(models_folder(), iris=False)
        self._clips = [(read_audio(clip), mouths(clip, mesh)) for clip in tqdm(clips, desc="clips")]
        measures = torch.cat([measure for _, measure in self._clips] or [torch.zeros(2, MEASURES)])
        measures = measures[~measures.isnan().any(1)]
        self._mouth = measures.mean(0), measures.std(0) + 1e-6
        features = torch.cat([teacher(self._sound(path)) for path in self._sounds[:40]])
        self._features = features.mean(0), features.std(0) + 1e-6

    def _sound(self, path: Path) -> Tensor:
        return torch.from_numpy(np.load(path).astype(np.float32)) / FULL_SCALE

    def batch(self, size: int) -> Example:
        """So many examples."""
        return Example(*map(torch.stack, zip(*(self._example() for _ in range(size)), strict=True)))

    def _example(self) -> Example:
        measures = torch.full((1, MEASURES), torch.nan)
        if self._clips and self._draw.random() < REAL:
            sound, measures = self._draw.choice(self._clips)
            measures = (measures - self._mouth[0]) / self._mouth[1]
        else:
            sound = self._sound(self._draw.choice(self._sounds))
        clean, noisy, rate = augmented(sound, self._draw)
        features = (self._teacher(clean) - self._features[0]) / self._features[1]
        start = self._draw.randrange(max(1, len(features) - VECTORS)) // 2 * 2
        features = features[start : start + VECTORS]
        missing = VECTORS - len(features)
        heard = ((noisy - noisy.mean()) / (noisy.std() + 1e-4))[start * OUR_STRIDE :][:SAMPLES]
        frames = functional.interpolate(
            measures.T[None], size=max(1, int(len(measures) / rate)), mode="linear"
        )[0].T[start // 2 :][: VECTORS // 2]
        return Example(
            functional.pad(heard, (0, SAMPLES - len(heard))),
            functional.pad(features, (0, 0, 0, missing)),
            functional.pad(torch.ones(len(features), 1), (0, 0, 0, missing)),
            functional.pad(frames, (0, 0, 0, VECTORS // 2 - len(frames)), value=torch.nan),
        )


class Student(nn.Module):
    """The encoder, and what reads the two targets off its last layer."""

    def __init__(self) -> None:
        super().__init__()
        dropout: dict[str, Any] = dict.fromkeys(NO_DROPOUT, 0.0)
        config = Wav2Vec2Config(**SIZES, **dropout, apply_spec_augment=False, vocab_size=32)
        self.encoder = Wav2Vec2Model(config)
        self.teacher = nn.Linear(SIZES["hidden_size"], TEACHER_WIDTH)
        self.mouth = nn.Linear(SIZES["hidden_size"], MEASURES)

    def loss(self, given: Example) -> tuple[Tensor, Tensor]:
        """Of the teacher's features, and of the mouth."""
        found = self.encoder(given.heard).last_hidden_state
        far = functional.smooth_l1_loss(self.teacher(found), given.features, reduction="none")
        heard = (far * given.known).sum() / (given.known.sum() * TEACHER_WIDTH)
        frames = found[:, : VECTORS // 2 * 2].unflatten(1, (-1, 2)).mean(2)
        seen = ~given.mouth.isnan()
        wrong = (self.mouth(frames) - given.mouth.nan_to_num()).square() * seen
        return heard, wrong.sum() / seen.sum().clamp(min=1)


def main() -> None:
    """Trains, and writes a transformers folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sounds", type=Path, required=True, help="of tools.speech.voices")
    parser.add_argument("--encoder", type=Path, required=True, help="Moonshine's")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="videos of people")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000, help="of 8 examples")
    parser.add_argument("--learning_rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    student, checkpoint = Student(), given.out / "checkpoint.pt"
    optimizer = torch.optim.AdamW(student.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    begun = 0
    if checkpoint.exists():
        states = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(states["student"])
        optimizer.load_state_dict(states["optimizer"])
        begun = states["step"]
    examples = Examples(given.sounds, given.clips, Moonshine(given.encoder), given.seed + begun)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(examples.batch, 8)
        bar = tqdm(range(begun, given.steps), initial=begun, total=given.steps)
        for step in bar:
            batch, following = following.result(), pool.submit(examples.batch, 8)
            rate = min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / given.steps))
            for group in optimizer.param_groups:
                group["lr"] = given.learning_rate * rate
            with torch.autocast("cpu", torch.bfloat16):
                heard, mouth = student.loss(batch)
            (2 * heard + MOUTH_WEIGHT * mouth).backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 50 == 49:
                bar.set_postfix(teacher=f"{heard:.3f}", mouth=f"{mouth:.3f}")
            if step % 500 == 499 or step == given.steps - 1:
                given.out.mkdir(parents=True, exist_ok=True)
                student.encoder.save_pretrained(given.out / "audio_encoder")
                states = {"student": student.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(states | {"step": step + 1}, checkpoint.with_suffix(".new"))
                checkpoint.with_suffix(".new").replace(checkpoint)


if __name__ == "__main__":
    main()
