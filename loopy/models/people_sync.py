"""The sync judge for people: towers of `loopy.models.sync` over landmarks and an audio encoder.

It was trained on clips of people (`tools.judges.train_people_sync`), of whom it sees no picture:
only chin and lips among the 68 points, as MediaPipe's networks give them, and the features of one
audio encoder. Its sizes, and which encoder that was, stand in a file beside the weights.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from loopy.drafts import existing_folder
from loopy.errors import ModelError
from loopy.models.audio import SpeechEncoder
from loopy.models.folder import ASSETS
from loopy.models.sync import CHIN_AND_LIPS, Tower, upright
from loopy.models.tensor_files import read_object, read_tensors
from loopy.models.weights import fingerprint, load_by_name
from loopy.tensor_file import save_tensors
from loopy.typed_values import record_of, write_record

HOME = ASSETS / "people_sync"
WEIGHTS, CARD, SETTINGS = "sync.safetensors", "sync.json", "settings"
SCALE = 10.0
"""Lips move by about a tenth of the distance of the eyes."""
LARGEST = 4096
"""Layers, and width of each, beyond which no file is believed."""
TRAINER = "python -m tools.judges.train_people_sync"


@dataclass(frozen=True)
class PeopleSyncSettings:
    """What a judge is built from, and how its confidence is to be read.

    Args:
        layers: Of the audio encoder's features (k).
        width: Of each layer (a).
        audio_encoder: Which encoder it was, see `encoder_fingerprint`.
        sure: Confidence from which on sound and mouth belong together; the card says how chosen.
    """

    layers: int
    width: int
    audio_encoder: str
    sure: float


class PeopleSyncJudge(nn.Module):
    """A tower for sound and one for landmarks; all vectors lie on one sphere.

    Attributes:
        norm: Of each layer of the audio encoder, whose scales differ.
        sound: Reads all layers.
        landmarks: Reads `lip_motion`.
    """

    def __init__(self, settings: PeopleSyncSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm = nn.LayerNorm(settings.width, elementwise_affine=False)
        self.sound = Tower(settings.layers * settings.width)
        self.landmarks = Tower(2 * len(CHIN_AND_LIPS))

    @torch.no_grad()
    def embed_sound(self, features: Float[Tensor, "f k a"]) -> Float[Tensor, "g d"]:
        """Unit vectors of a sound."""
        return self.sound(self.norm(features[None].float()))[0]

    @torch.no_grad()
    def embed_points(self, points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "g d"]:
        """Unit vectors of a face track, in any unit; NaN where points are missing."""
        return self.landmarks(lip_motion(points)[None])[0]

    def check(self, audio_encoder: SpeechEncoder) -> None:
        """Make sure that an audio encoder is the one that the judge has learned from.

        Raises:
            ModelError: It is another one, though its shape may be the same.
        """
        other, own = encoder_fingerprint(audio_encoder), self.settings.audio_encoder
        if other != own:
            raise ModelError(
                f"the sync judge for people has learned from the audio encoder {own}, not from "
                f"{other}; give that one, or train a judge by {TRAINER}"
            )

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None) -> Self:
        """Load the judge of the package, or one from a folder.

        Raises:
            ModelError: A file is missing or damaged, or a tensor does not fit.
        """
        place = Path(folder or HOME)
        if not (place / WEIGHTS).is_file():
            raise ModelError(
                f"the sync judge for people lacks {place / WEIGHTS}; train it by {TRAINER}"
            )
        try:
            settings = record_of(PeopleSyncSettings, cls.card(place).get(SETTINGS), f"{SETTINGS}.")
        except ModelError:
            raise
        except ValueError as error:
            raise ModelError(f"{place / CARD} describes no judge: {error}") from error
        if not (0 < settings.layers <= LARGEST and 0 < settings.width <= LARGEST):
            raise ModelError(f"{place / CARD} describes no judge: {settings}")
        judge = cls(settings)
        load_by_name(judge, read_tensors(place / WEIGHTS).tensors)
        return judge.eval()

    @classmethod
    def card(cls, folder: str | Path | None = None) -> dict[str, Any]:
        """Its settings, how it was made and of what, and how accurate it is on unseen clips.

        Raises:
            ModelError: The file is missing or damaged.
        """
        return read_object(Path(folder or HOME) / CARD)

    def save_pretrained(self, folder: str | Path, *, card: dict[str, Any]) -> None:
        """Write the weights in half precision, and settings and card.

        Raises:
            OutputError: It cannot be written there.
        """
        folder = existing_folder(folder)
        half = {name: value.half() for name, value in self.state_dict().items()}
        save_tensors(folder / WEIGHTS, half)
        write_record(folder / CARD, {SETTINGS: asdict(self.settings), **card})


def lip_motion(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f p 2"]:
    """`upright` points less their mean over the track: how a mouth moves, and not whose it is.

    In tenths of the distance of the eyes.
    """
    shape = upright(points)
    return SCALE * (shape - shape.nanmean(0))


def encoder_fingerprint(audio_encoder: SpeechEncoder) -> str:
    """Of an encoder in half precision, as it is stored: rounding makes no other network."""
    return fingerprint(deepcopy(audio_encoder).half())
