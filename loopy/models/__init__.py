"""The networks. This path is frozen: ``model_index.json`` of saved models names it."""

from loopy.installation import check_torchaudio

# A torchaudio of another build than torch breaks every import of diffusers; say so in one line.
check_torchaudio()

from loopy.models.audio import AudioEncoder, AudioProjection, SpeechEncoder  # noqa: E402
from loopy.models.audio_to_latents import CONDITIONS, AudioToLatents  # noqa: E402
from loopy.models.condition import FrameCondition  # noqa: E402
from loopy.models.dual import DualUNet  # noqa: E402
from loopy.models.latents import decode_latents, encode_images  # noqa: E402
from loopy.models.narrow import NarrowDecoderKL  # noqa: E402
from loopy.models.tiny import NormedTiny  # noqa: E402
from loopy.models.unet import UNet  # noqa: E402
from loopy.models.weights import LoadReport, load_by_name, load_sd15  # noqa: E402

__all__ = [
    "CONDITIONS",
    "AudioEncoder",
    "AudioProjection",
    "AudioToLatents",
    "DualUNet",
    "FrameCondition",
    "LoadReport",
    "NarrowDecoderKL",
    "NormedTiny",
    "SpeechEncoder",
    "UNet",
    "decode_latents",
    "encode_images",
    "load_by_name",
    "load_sd15",
]
