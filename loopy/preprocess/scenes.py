"""Where a video cuts: spans of one shot each."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from loopy.data.media.container import open_media, tick_s
from loopy.data.media.video_frames import pixels_of
from loopy.data.media.video_pictures import decoded, moving_pictures
from loopy.errors import DependencyError, MediaError
from loopy.paths import AnyPath
from loopy.timing import FPS

LONG_SIDE_PX = 256  # what the detectors look at


@dataclass(frozen=True)
class SceneOptions:
    """When a change of picture is a cut. A cut missed spoils samples, a false one only shortens.

    Both thresholds are PySceneDetect's mean change of hue, saturation and brightness (0 to 255)
    from one picture to the next, at their defaults there.

    Args:
        threshold: From here it is a cut, whatever is around it.
        faint_threshold: From here it is one if it stands out.
        stands_out: How many times the mean change of the two pictures before and after.
    """

    threshold: float = 27.0
    faint_threshold: float = 15.0
    stands_out: float = 3.0


class Shot(NamedTuple):
    """A span without a cut: exact seconds from the video's start to its first and last picture."""

    start_s: Fraction
    last_s: Fraction

    def frames(self) -> range:
        """Frames of the 25 fps grid of `read_frames` that show this shot and no other."""
        return range(ceil(self.start_s * FPS), floor(self.last_s * FPS) + 1)


def find_shots(path: AnyPath, options: SceneOptions = SceneOptions()) -> list[Shot]:
    """Cuts a video into shots, exact to a picture, by PySceneDetect's detectors; one without a cut.

    Pictures come through our own door, not PySceneDetect's: no network, cover art passed over,
    damage named, and the clock of the reader. Dissolves and fades are not found.

    Raises:
        MediaError: Not a readable video, or one whose pictures change their size.
        DependencyError: PySceneDetect is not installed.
    """
    try:
        from scenedetect.common import FrameTimecode, Timecode
        from scenedetect.detectors import AdaptiveDetector, ContentDetector
    except ImportError as error:
        raise DependencyError(
            "scene cuts need PySceneDetect and OpenCV; pip install 'loopy-portrait[preprocess]'"
        ) from error
    # 0: a shortest scene in here would hide a second cut soon after a first
    detectors = (
        ContentDetector(threshold=options.threshold, min_scene_len=0),
        AdaptiveDetector(
            adaptive_threshold=options.stands_out,
            min_content_val=options.faint_threshold,
            min_scene_len=0,
        ),
    )
    times, cuts, first_size = list[Fraction](), set[Fraction](), None
    with open_media(path, "video") as container:
        stream = moving_pictures(container)
        tick, rate = tick_s(stream), stream.average_rate or FPS
        for picture in decoded(container):
            times.append(picture.time_s)
            size = picture.width_px, picture.height_px
            first_size = first_size or size
            if size != first_size:
                raise MediaError(
                    f"{path} changes its size from {first_size} to {size} at "
                    f"{float(times[-1]):.2f} s; cut it there, or convert it"
                )
            shrink = max(*size, LONG_SIDE_PX) / LONG_SIDE_PX
            width, height = (max(1, round(side / shrink)) for side in size)
            small = pixels_of(picture.frame, width_px=width, height_px=height, quick=True)
            moment = FrameTimecode(Timecode(int(times[-1] / tick), tick), fps=rate)
            for detector in detectors:
                found = detector.process_frame(moment, small)
                cuts.update(cut.pts * cut.time_base for cut in found)
    if not times:
        raise MediaError(f"{path} has no picture that can be decoded; give an intact file")
    firsts = [0, *(i for i, time in enumerate(times) if time in cuts and i), len(times)]
    return [Shot(times[first], times[stop - 1]) for first, stop in pairwise(firsts)]
