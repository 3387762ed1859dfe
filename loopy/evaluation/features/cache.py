"""Features of a video on disk, so that an evaluation resumes where it stopped."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopy.data.media.finished import content_hash
from loopy.data.media.video_pictures import READING
from loopy.drafts import existing_folder
from loopy.evaluation.features.extract import ExtractorSet, VideoFeatures, VideoInput
from loopy.tensor_file import save_tensors


def cached_features(video: VideoInput, extractors: ExtractorSet, path: Path) -> VideoFeatures:
    """The features of a video, from a file where the same extractors have left them.

    Raises:
        MediaError: The video cannot be read.
        OutputError: The file cannot be written.
    """
    portrait = b"" if video.portrait is None else video.portrait.contiguous().numpy().tobytes()
    stamp = {
        "video": content_hash(video.path, "video"),
        "portrait": hashlib.sha256(portrait).hexdigest(),
        "extractors": extractors.key(),
        "reading": READING,
    }
    if (cached := _read(path, stamp)) is not None:
        return cached
    existing_folder(path.parent)
    features = extractors.extract(video)
    save_tensors(path, features.tensors, {**stamp, "problems": json.dumps(features.problems)})
    return features


def _read(path: Path, stamp: dict[str, str]) -> VideoFeatures | None:
    """None where there is no file, it is damaged, or of something else."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if any(about.get(name) != value for name, value in stamp.items()):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            return VideoFeatures(tensors, json.loads(about["problems"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def cached_tensor(path: Path, name: str) -> Tensor:
    """One feature of a file that `cached_features` has written.

    Raises:
        MetricError: It is missing.
    """
    with safe_open(path, framework="pt") as file:
        if name in file.keys():  # noqa: SIM118 (no dict)
            return file.get_tensor(name)
        problems = json.loads((file.metadata() or {})["problems"])
    return VideoFeatures({}, problems).get(name)
