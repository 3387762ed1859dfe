"""Loopy: a portrait and a voice become a talking video (arXiv 2409.02634).

Names are loaded when first asked for, so that `import loopy` costs milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loopy.errors import LoopyError
from loopy.installation import check_no_namesake, check_torchaudio

if TYPE_CHECKING:
    from loopy.data.media.video import Video
    from loopy.diffusion.options import SamplingOptions
    from loopy.models import AudioEncoder, AudioToLatents, DualUNet, UNet
    from loopy.models.live_features import LiveOptions
    from loopy.motion import MotionSequence
    from loopy.pipeline import LoopyPipeline
    from loopy.segments import SegmentLayout
    from loopy.subject import Subject

__version__ = "0.1.0"

__all__ = [
    "AudioEncoder",
    "AudioToLatents",
    "DualUNet",
    "LiveOptions",
    "LoopyError",
    "LoopyPipeline",
    "MotionSequence",
    "SamplingOptions",
    "SegmentLayout",
    "Subject",
    "UNet",
    "Video",
]

_HOMES = {
    "AudioEncoder": "loopy.models",
    "AudioToLatents": "loopy.models",
    "DualUNet": "loopy.models",
    "LiveOptions": "loopy.models.live_features",
    "LoopyPipeline": "loopy.pipeline",
    "MotionSequence": "loopy.motion",
    "SamplingOptions": "loopy.diffusion.options",
    "SegmentLayout": "loopy.segments",
    "Subject": "loopy.subject",
    "UNet": "loopy.models",
    "Video": "loopy.data.media.video",
}

check_no_namesake()


def __getattr__(name: str) -> Any:
    """Loads a public name from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'loopy' has no attribute {name!r}")
    check_torchaudio()
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted([*__all__, "__version__"])
