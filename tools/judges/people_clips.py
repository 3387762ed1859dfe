"""Sentences of the GRID corpus, as the sync judge for people takes them: points and sound.

M. Cooke, J. Barker, S. Cunningham, X. Shao, "An audio-visual corpus for speech perception and
automatic speech recognition", JASA 120(5), 2006; CC BY 4.0. A file's name is its sentence: six
letters for six words, `bbaf2n` is "bin blue at f two now".
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames
from loopy.data.store.index import VALIDATION
from loopy.data.store.index_build import identity_hash, split_of
from loopy.drafts import existing_folder
from loopy.errors import MediaError
from loopy.preprocess.landmarks.mediapipe import MediaPipe
from loopy.tensor_file import save_tensors

SOURCE = (
    'Clips of the GRID corpus: M. Cooke, J. Barker, S. Cunningham, X. Shao, "An audio-visual '
    'corpus for speech perception and automatic speech recognition", JASA 120(5), 2006, CC BY 4.0'
)
HELD_OUT = 0.12
WORDS = 6


@dataclass(frozen=True, eq=False)
class PeopleClip:
    """A sentence.

    Attributes:
        name: Of its file.
        points: Of the face, 25 a second, in pixels of the video.
        sound: At 16 kHz, on the clock of the pictures.
    """

    name: str
    points: Float[Tensor, "f 68 2"]
    sound: Float[Tensor, " samples"]

    @property
    def held_out(self) -> bool:
        """Whether it is measured and not trained on; a function of the name alone."""
        return split_of(identity_hash(self.name), validation=HELD_OUT, test=0) == VALIDATION

    def shared_words(self, other: "PeopleClip") -> int:
        """How many of the six words are the same in both sentences."""
        return sum(one == two for one, two in zip(self.name[:WORDS], other.name, strict=False))


def read_clips(folder: Path, *, cache: Path | None = None) -> list[PeopleClip]:
    """All clips in a folder, with a progress bar: about 9 ms a frame for the points.

    Args:
        folder: With ``.mpg`` files.
        cache: A folder, for a file with the name of the clips' folder: what was found is written
            there, and read from there the next time.

    Raises:
        MediaError: There are none.
        ModelError: The face networks are not installed.
    """
    files = sorted(folder.glob("*.mpg"))
    if not files:
        raise MediaError(f"no .mpg files in {folder}; give a folder of the GRID corpus")
    saved = None if cache is None else existing_folder(cache) / f"{folder.name}.safetensors"
    if saved is not None and saved.is_file():
        known = load_file(saved)
        return [PeopleClip(f.name, known[f"{f.name} points"], known[f"{f.name} sound"])
                for f in files]  # fmt: skip
    networks, clips = MediaPipe(), list[PeopleClip]()
    for file in tqdm(files, desc=folder.name, unit="clip", mininterval=5):
        frames = (torch.from_numpy(frame)[None] for frame in iterate_frames(file))
        points = networks.follow(frames).points
        clips.append(PeopleClip(file.name, points, read_audio(file, zero="pictures")))
    if saved is not None:
        found = {f"{clip.name} points": clip.points for clip in clips}
        save_tensors(saved, found | {f"{clip.name} sound": clip.sound for clip in clips})
    return clips
