"""SyncNet v2 (Chung and Zisserman 2016), with its authors' parameter names.

Their network and weights are MIT-licensed. Here is the definition of the network alone; the weights
come from a local file.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from loopy.errors import MetricError, ModelError
from loopy.metrics.extractors import SYNCNET
from loopy.models.weights import load_by_name
from loopy.timing import SAMPLE_RATE_HZ

SIZE_PX, FRAMES, SOUND_STEPS = 224, 5, 20
"""A face crop, the frames of a window, and the steps of 10 ms in which the same time is heard."""

WIDTH = 1024
_SAMPLES_A_FRAME, _STEPS_A_FRAME = 640, 4
_COEFFICIENTS = 13
_STEP_SAMPLES = 160
_FRAME_SAMPLES, _POINTS, _BANDS, _LIFTER, _EMPHASIS = 400, 512, 26, 22, 0.97
_EPSILON = torch.finfo(torch.float64).eps
_INT16 = 32768


class SyncNet(nn.Module):
    """Windows of 0.2 s, seen and heard, to 1024 numbers each.

    Called with a face track and its sound.
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1, 1),  # does nothing; keeps the numbers of the layers behind it
            *_layer(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, (1, 2)),
            *_layer(nn.Conv2d(192, 384, 3, padding=1)),
            *_layer(nn.Conv2d(384, 256, 3, padding=1)),
            *_layer(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, 2),
            *_layer(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netcnnlip = nn.Sequential(
            *_layer(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(256, 512, (1, 6, 6))),
        )
        self.netfcaud = _head()
        self.netfclip = _head()

    def pictures(self, windows: Float[Tensor, "n 3 5 224 224"]) -> Float[Tensor, "n 1024"]:
        """Embed what is seen: blue, green, red of a face crop in 0 to 255."""
        return self.netfclip(self.netcnnlip(windows).flatten(1))

    def sound(self, windows: Float[Tensor, "n 1 13 20"]) -> Float[Tensor, "n 1024"]:
        """Embed what is heard: coefficients of 0.2 s."""
        return self.netfcaud(self.netcnnaud(windows).flatten(1))

    @torch.no_grad()
    def forward(
        self, frames: UInt8[Tensor, "f 224 224 3"], audio: Float[Tensor, "n"], *, at_once: int = 8
    ) -> tuple[Float[Tensor, "w 1024"], Float[Tensor, "w 1024"]]:
        """Embeddings of all windows of a face track, as the authors' script takes them.

        Args:
            frames: Face crops, sRGB, 25 frames a second; the authors cut them by a face detector,
                with 40 % of the face's size around it.
            audio: Mono, 16 kHz; what is longer of the two is not used to its end.
            at_once: Windows that the network sees together.

        Returns:
            Of pictures and of sound; 5 fewer than frames, as there.

        Raises:
            MetricError: Crops of another size, or fewer than 6 frames with sound.
        """
        if tuple(frames.shape[1:]) != (SIZE_PX, SIZE_PX, 3):
            got = tuple(frames.shape[1:])
            raise MetricError(f"SyncNet sees face crops of {SIZE_PX} px with 3 colours, got {got}")
        windows = min(len(frames), len(audio) // _SAMPLES_A_FRAME) - FRAMES
        if windows < 1:
            raise MetricError(
                f"{len(frames)} frames and {len(audio)} samples are too short; SyncNet needs "
                f"{FRAMES + 1} frames with {_SAMPLES_A_FRAME} samples each"
            )
        weight = next(self.parameters())
        heard = mfcc(audio).to(weight).unfold(0, SOUND_STEPS, _STEPS_A_FRAME)[:windows, None]
        seen = []
        for part in torch.arange(windows).split(at_once):
            stretch = frames[int(part[0]) : int(part[-1]) + FRAMES].to(weight).flip(-1)
            seen.append(self.pictures(stretch.unfold(0, FRAMES, 1).permute(0, 3, 4, 1, 2)))
        sound = [self.sound(part) for part in heard.split(at_once)]
        return torch.cat(seen).float().cpu(), torch.cat(sound).float().cpu()


def load_syncnet(path: str | Path | None) -> SyncNet:
    """The network with the weights of a local file.

    Raises:
        ModelError: The file is missing, damaged, or lacks or has too many tensors.
    """
    network = SyncNet()
    try:
        load_by_name(network, SYNCNET.read(path), new=("num_batches_tracked",))
    except ModelError as error:
        raise ModelError(f"SyncNet: {error}") from error
    return network.eval()


def mfcc(audio: Float[Tensor, "n"]) -> Float[Tensor, "t 13"]:
    """Mel-frequency cepstral coefficients, 100 a second, as python_speech_features has them.

    Frames of 25 ms every 10 ms without a window function, 512 points, 26 triangles on the mel
    scale, 13 coefficients liftered by 22, the first of them replaced by the log of the energy.

    Args:
        audio: Mono, 16 kHz, in [-1, 1], one sample at least; scaled here to 16 bits.
    """
    sound = audio.double() * _INT16
    sound = torch.cat([sound[:1], sound[1:] - _EMPHASIS * sound[:-1]])
    frames = 1 + max(0, math.ceil((len(sound) - _FRAME_SAMPLES) / _STEP_SAMPLES))
    length = (frames - 1) * _STEP_SAMPLES + _FRAME_SAMPLES
    padded = torch.cat([sound, sound.new_zeros(length - len(sound))])
    power = torch.fft.rfft(padded.unfold(0, _FRAME_SAMPLES, _STEP_SAMPLES), _POINTS).abs() ** 2
    power = power / _POINTS
    bands = power @ _triangles().to(power).T
    cepstrum = bands.clamp(min=_EPSILON).log() @ _cosines().to(power).T
    energy = power.sum(1).clamp(min=_EPSILON).log()
    return torch.cat([energy[:, None], cepstrum[:, 1:]], 1).float()


def _triangles() -> Float[Tensor, "26 257"]:
    """Filters that rise and fall in a line between points evenly spaced on the mel scale."""
    top = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    mels = torch.linspace(0, top, _BANDS + 2, dtype=torch.float64)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = ((_POINTS + 1) * hertz / SAMPLE_RATE_HZ).floor()
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    points = torch.arange(_POINTS // 2 + 1, dtype=torch.float64)
    rising, falling = (points - left) / (middle - left), (right - points) / (right - middle)
    inside = (points >= left) & (points < right)
    return torch.where(points < middle, rising, falling) * inside


def _cosines() -> Float[Tensor, "13 26"]:
    """The orthonormal cosine transform (type 2), its rows weighted by the lifter."""
    order = torch.arange(_COEFFICIENTS, dtype=torch.float64)[:, None]
    place = torch.arange(_BANDS, dtype=torch.float64) + 0.5
    basis = (math.pi * order * place / _BANDS).cos() * math.sqrt(2 / _BANDS)
    return basis * (1 + _LIFTER / 2 * (math.pi * order / _LIFTER).sin())


def _layer(convolution: nn.Conv2d | nn.Conv3d) -> Sequence[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return convolution, norm(convolution.out_channels), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, WIDTH))
