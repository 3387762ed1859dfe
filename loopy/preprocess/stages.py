"""The steps from a video to clips, as a table."""

from typing import NamedTuple


class Stage(NamedTuple):
    """A step of the way; `STAGES` is the table of them.

    Attributes:
        name: As in the times of a ledger.
        takes: What goes in.
        gives: What comes out.
        runs_on: What it keeps busy.
    """

    name: str
    takes: str
    gives: str
    runs_on: str


STAGES = (
    Stage("probe", "the file", "length, rate, size, sound, hash", "disk"),
    Stage("shots", "all pictures, small", "spans without a cut (PySceneDetect)", "CPU"),
    Stage("track", "pictures of a shot, 25 a second", "68 points a frame", "CPU or GPU"),
    Stage("filter", "track, size, sound", "square crop, measures, a reason to reject", "CPU"),
    Stage("pictures", "pictures of a clip", "squares of the size of the store", "CPU"),
    Stage("latents", "squares", "posterior means", "GPU"),
    Stage("audio", "sound at 16 kHz, on the pictures' clock", "all layers of wav2vec2", "GPU"),
    Stage("store", "a clip", "its file", "disk"),
)
