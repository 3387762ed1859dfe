"""Talks: a toon face, a voice, and the truth of every frame, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from loopy.errors import ConfigurationError
from loopy.motion import MotionSequence
from loopy.synthetic.face import CONTROLS, Identity, landmarks, random_identities, render
from loopy.synthetic.movement import random_movement, smooth
from loopy.synthetic.noise import mix_noise, random_noise
from loopy.synthetic.sentences import random_sentence
from loopy.synthetic.visemes import Phoneme, viseme_tracks
from loopy.synthetic.voice import random_voice, speak
from loopy.timing import FPS, SAMPLE_RATE_HZ, frame_count

Kind = Literal["speech", "mixed", "listening", "noise", "silence"]

_MOTION_SIZE_PX = 512
_FRAME_SAMPLES = SAMPLE_RATE_HZ // int(FPS)


@dataclass(frozen=True)
class Talk:
    """A stretch of video of one toon talker, not yet drawn.

    Attributes:
        identity: Who; one row.
        controls: What the face does; columns in the order of `CONTROLS`.
        audio: 16 kHz mono in [-1, 1], background noise included.
        phonemes: What the talker says, on the clock of `audio`.
        motion: The true face track, in pixels of a 512 px picture.
    """

    identity: Identity
    controls: Float[Tensor, "f 14"]
    audio: Float[Tensor, " samples"]
    phonemes: tuple[Phoneme, ...]
    motion: MotionSequence

    def frames(
        self, indices: Sequence[int] | Int[Tensor, " n"], *, size_px: int = 128
    ) -> Float[Tensor, "n 3 H W"]:
        """Draw the frames asked for, and only those.

        Args:
            indices: Frame numbers in any order.
            size_px: Height and width.

        Returns:
            Pictures in [-1, 1].
        """
        controls = self.controls[torch.as_tensor(indices, dtype=torch.long)]
        return render(self.identity.expand(len(controls)), controls, size_px=size_px)


def random_talk(
    seed: int, *, seconds: float, identity: Identity | None = None, kind: Kind = "speech"
) -> Talk:
    """A talk that is a function of its arguments alone.

    Args:
        seed: Draws face, voice, words, noise and movement, each on its own.
        seconds: Length; `audio` has round(seconds x 16000) samples.
        identity: Who talks (one row); a random one if None, which changes nothing else.
        kind: "speech" sentence after sentence; "mixed" with listening between; "listening" to
            silence or low noise; "noise" loud noise and "silence", during which the mouth is
            closed and calm.

    Raises:
        ConfigurationError: No such kind, or a length of less than one frame.
        DependencyError: espeakng_loader is not installed, and the kind has speech.
    """
    samples = round(seconds * SAMPLE_RATE_HZ)
    if kind not in get_args(Kind):
        raise ConfigurationError(f"no talk is {kind!r}; kinds are {', '.join(get_args(Kind))}")
    if frame_count(samples) < 1:
        raise ConfigurationError(f"{seconds} s is less than one frame; give 0.04 s or more")
    seeds = torch.randint(2**62, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
    who, words, room, body = (torch.Generator().manual_seed(each) for each in seeds)
    voice, phonemes = torch.zeros(samples), ()
    if kind in ("speech", "mixed"):
        voice, phonemes = _monologue(samples, words, listens=kind == "mixed")
    energy = _energy(voice)
    columns = random_movement(energy, phonemes, body)
    mouth = viseme_tracks(phonemes, samples / SAMPLE_RATE_HZ)
    columns |= dict(zip(("open", "wide", "round", "teeth"), mouth.T, strict=True))
    columns["open"] = (columns["open"] * (0.88 + 0.24 * energy)).clamp(max=1)
    controls = torch.stack([columns[name] for name in CONTROLS], 1)
    identity = random_identities(1, who) if identity is None else identity
    return Talk(
        identity=identity,
        controls=controls,
        audio=_with_background(voice, kind, room),
        phonemes=phonemes,
        motion=_motion(identity, controls),
    )


def _monologue(
    samples: int, generator: torch.Generator, *, listens: bool
) -> tuple[Float[Tensor, " samples"], tuple[Phoneme, ...]]:
    """Sentences of one voice with pauses between them, cut at the end."""
    manner = random_voice(generator)
    audio = torch.zeros(samples)
    phonemes: list[Phoneme] = []
    start = int(0.5 * SAMPLE_RATE_HZ * torch.rand((), generator=generator))
    while start < samples:
        speech = speak(random_sentence(generator), **manner)
        part = speech.audio[: samples - start]
        audio[start : start + len(part)] = part
        offset_s = start / SAMPLE_RATE_HZ
        phonemes += [
            Phoneme(each.name, each.start_s + offset_s, each.stress) for each in speech.phonemes
        ]
        start += len(speech.audio)
        phonemes.append(Phoneme("", start / SAMPLE_RATE_HZ))
        rest, long = torch.rand(2, generator=generator).tolist()
        pause_s = 1 + 2.5 * rest if listens and long < 0.5 else 0.05 + 0.7 * rest
        start += int(pause_s * SAMPLE_RATE_HZ)
    level = 0.3 + 0.6 * torch.rand((), generator=generator)
    audio *= level / audio.abs().max().clamp(min=1e-3)
    heard = (each for each in phonemes if each.start_s < samples / SAMPLE_RATE_HZ)
    return audio, tuple(heard)


def _energy(voice: Float[Tensor, " samples"]) -> Float[Tensor, " f"]:
    """Loudness of each frame relative to the loudest, 0 to 1."""
    frames = frame_count(len(voice))
    whole = functional.pad(voice, (0, max(0, frames * _FRAME_SAMPLES - len(voice))))
    squares = whole[: frames * _FRAME_SAMPLES].view(frames, _FRAME_SAMPLES).square()
    loudness = squares.mean(1).sqrt()
    return smooth(loudness, 0.04) / loudness.amax().clamp(min=1e-3)


def _with_background(
    voice: Float[Tensor, " samples"], kind: Kind, generator: torch.Generator
) -> Float[Tensor, " samples"]:
    """The voice in its room: without noise in half of the cases."""
    chance, amount = torch.rand(2, generator=generator).tolist()
    noise = random_noise(len(voice), generator)
    if kind in ("speech", "mixed"):
        sound = mix_noise(voice, noise, snr_db=5 + 40 * amount) if chance < 0.5 else voice
    elif kind == "noise":
        sound = noise * 10 ** (-(12 + 23 * amount) / 20)
    elif kind == "listening" and chance < 0.5:
        sound = noise * 10 ** (-(40 + 25 * amount) / 20)
    else:
        sound = torch.zeros_like(voice)
    return sound.clamp(-1, 1)


def _motion(identity: Identity, controls: Float[Tensor, "f 14"]) -> MotionSequence:
    points, valid = landmarks(identity.expand(len(controls)), controls, size_px=_MOTION_SIZE_PX)
    pose = controls[:, [CONTROLS.index(name) for name in ("yaw", "pitch", "roll")]]
    return MotionSequence(points, pose, valid, _MOTION_SIZE_PX)
