"""One video file: H.264 pictures, and the user's own sound as AAC, written as they come."""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import Colorspace
from jaxtyping import UInt8

from loopy.data.media.container import open_media, sound_stream
from loopy.data.media.sound import Sound, check_audio, check_peak, peak_of
from loopy.data.media.sound_blocks import Channels, sound_blocks
from loopy.errors import OutputError
from loopy.paths import AnyPath
from loopy.timing import SAMPLE_RATE_HZ

VIDEO_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
AAC_RATES_HZ = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000),
    *(32_000, 44_100, 48_000, 64_000, 88_200, 96_000),
)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")
BT709 = 1  # the tag that stands for it in H.264


class LiveTrack:
    """The sound of a video whose pictures are made while it comes; `open_writer` takes it.

    Args:
        rate_hz: Its rate, one that AAC has.
        layout: Its channels, likewise.
    """

    def __init__(self, *, rate_hz: int, layout: str) -> None:
        self.rate_hz, self.layout = rate_hz, layout
        self._blocks = deque[Channels]()

    def append(self, block: Channels) -> None:
        """Takes samples before the pictures of their time are written."""
        self._blocks.append(block)

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Channels:
        """The next samples; StopIteration as long as there are none."""
        if not self._blocks:
            raise StopIteration
        return self._blocks.popleft()


class VideoFile:
    """Encodes frame by frame, with the sound up to each frame, in flat memory.

    Arguments and errors are those of `open_writer`; the path has a suffix of ``VIDEO_FORMATS``.
    """

    def __init__(
        self, path: Path, *, fps: Fraction | int, sound: Sound | LiveTrack | None, crf: int
    ) -> None:
        self._container = av.open(
            f"file:{path}",
            "w",
            format=VIDEO_FORMATS[path.suffix.lower()],
            container_options={"movflags": "+faststart", "fflags": "+bitexact"},  # no random ids
        )
        self._pictures = self._container.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": str(crf)}
        )
        self._sound = None if sound is None else SoundTrack(self._container, sound)
        self._fps, self._frames = Fraction(fps), 0

    def put(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Appends one RGB frame of even sides, and the sound up to its end."""
        if self._frames == 0:
            self._fix_size(*frame.shape[:2])
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709
        )
        picture.pts, picture.time_base = self._frames, 1 / self._fps
        self._container.mux(self._pictures.encode(picture))
        self._frames += 1
        if self._sound is not None:
            self._sound.reach(self._frames / self._fps)

    def finish(self) -> None:
        """Writes what the encoders still hold, and the index of the file."""
        self._container.mux(self._pictures.encode())
        if self._sound is not None:
            self._sound.finish()
        self._container.close()

    def close(self) -> None:
        """Closes the file, finished or not."""
        with suppress(FFmpegError):
            self._container.close()

    def _fix_size(self, height: int, width: int) -> None:
        if height % 2 or width % 2:
            raise OutputError(f"video frames are {width} x {height} px; H.264 needs even sides")
        self._pictures.height, self._pictures.width = height, width
        self._pictures.pix_fmt = "yuv420p"
        codec = self._pictures.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709


class SoundTrack:
    """The AAC stream of a video: exactly as long as its pictures.

    The rate and channels of a file stay where AAC has them (otherwise 48 kHz, stereo); sound in
    memory becomes mono of 16 kHz. Its first sample is at the first picture.
    """

    def __init__(self, container: OutputContainer, sound: Sound | LiveTrack) -> None:
        if isinstance(sound, LiveTrack):
            self._rate_hz, self._layout, self._blocks = sound.rate_hz, sound.layout, sound
        elif isinstance(sound, str | PathLike):
            with open_media(sound, "sound") as file:
                self._rate_hz, self._layout = aac_form(sound_stream(file))
            self._blocks = _file_blocks(sound, rate_hz=self._rate_hz, layout=self._layout)
        else:
            self._rate_hz, self._layout = SAMPLE_RATE_HZ, "mono"
            self._blocks = iter([check_audio(sound).cpu().numpy()[None]])
        self._container = container
        self._stream = container.add_stream("aac", rate=self._rate_hz, layout=self._layout)
        channels = self._stream.layout.nb_channels
        self._stream.bit_rate = channels * min(96_000, 4 * self._rate_hz)
        self._rest = np.zeros((channels, 0), np.float32)
        self._samples = 0

    def reach(self, seconds: Fraction) -> None:
        """Encodes the sound up to this time; silence, once it is over."""
        wanted = int(seconds * self._rate_hz) - self._samples
        while (missing := wanted - self._rest.shape[1]) > 0:
            silence = np.zeros((len(self._rest), missing), np.float32)
            self._rest = np.concatenate([self._rest, next(self._blocks, silence)], axis=1)
        now, self._rest = np.ascontiguousarray(self._rest[:, :wanted]), self._rest[:, wanted:]
        frame = av.AudioFrame.from_ndarray(now, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._rate_hz, self._samples
        frame.time_base = Fraction(1, self._rate_hz)
        self._container.mux(self._stream.encode(frame))
        self._samples += wanted

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._container.mux(self._stream.encode())


def aac_form(stream: AudioStream) -> tuple[int, str]:
    """Sample rate and channel layout to encode a sound with: its own where AAC has them."""
    rate_hz = stream.rate if stream.rate in AAC_RATES_HZ else 48_000
    if stream.layout.nb_channels == 1:  # many a wave file names no layout
        return rate_hz, "mono"
    return rate_hz, stream.layout.name if stream.layout.name in AAC_LAYOUTS else "stereo"


def _file_blocks(path: AnyPath, *, rate_hz: int, layout: str) -> Iterator[Channels]:
    """The whole sound of a file, from its own start on, clipped to full scale."""
    with open_media(path, "sound") as container:
        for block in sound_blocks(container, rate_hz=rate_hz, zero="sound", layout=layout):
            check_peak(peak_of(block.samples, f"sound {path}"), f"sound {path}")
            yield block.samples.clip(-1, 1)
