"""`loopy animate portrait.png -`: the sound comes through a pipe and is spoken as it comes."""

from collections.abc import Iterator

from jaxtyping import UInt8
from torch import Tensor

from loopy.data.media.live_sound import STANDARD_INPUT, LiveSound
from loopy.data.media.mono import Mixer
from loopy.data.media.video_file import LiveTrack
from loopy.errors import MediaError
from loopy.session import Session


def spoken_clips(
    session: Session, sound: LiveSound, track: LiveTrack | None, *, longest_s: float
) -> Iterator[UInt8[Tensor, "f h w 3"]]:
    """Frames as a sound comes, and those that are left at its end.

    Args:
        session: Of the sound's rate.
        sound: What is heard.
        track: Is given the sound before the frames of its time; None where the result has none.
        longest_s: More is an error.

    Raises:
        MediaError: The sound is damaged, under a frame, or longer.
    """
    mixer = Mixer()
    for block in sound.blocks(longest_s=longest_s):
        frames = session.push(mixer(block))  # samples that are none of a sound end here
        if track is not None:
            track.append(block.samples.clip(-1, 1))
        if len(frames):
            yield frames
    if len(frames := session.flush()):
        yield frames
    if not session.delays.clips:
        raise MediaError(f"{STANDARD_INPUT} ended at once; give at least 0.04 s, a video frame")
