"""MediaPipe's three networks of faces: their files, and LiteRT that runs them."""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from platformdirs import user_data_path
from torch import Tensor

from loopy.drafts import output_errors, writing
from loopy.errors import DependencyError, ModelError
from loopy.paths import AnyPath
from loopy.typed_values import check_number

WHEEL = "mediapipe==0.10.21"
"""The last release of MediaPipe (Apache-2.0) whose wheel carries the files as they are."""
FILES = {
    "face_detection_short_range": (
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    "face_landmark": (
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    ),
    "iris_landmark": (
        "mediapipe/modules/iris_landmark/iris_landmark.tflite",
        "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    ),
}
"""Where each network lies in the wheel, and the SHA-256 of its file."""
LICENSE = "LICENSE.mediapipe"
MOST_BYTES = 10_000_000
UNREADABLE = (
    *(OSError, KeyError, ValueError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What a wheel that is damaged, encrypted or none can end in."""


def models_folder() -> Path:
    """Where `loopy faces install` puts the files if no other folder is named."""
    return user_data_path("loopy") / "faces"


def installed(folder: AnyPath | None = None) -> bool:
    """Whether the three files and LiteRT are there."""
    place = models_folder() if folder is None else Path(folder)
    return all((place / f"{name}.tflite").is_file() for name in FILES) and _litert() is not None


def unpack_wheel(wheel: Path, folder: AnyPath | None = None) -> Path:
    """Takes the three files, and their licence, out of MediaPipe's wheel.

    Args:
        wheel: ``mediapipe-0.10.21-*.whl``, of any platform.
        folder: Where to; `models_folder` if None.

    Returns:
        The folder.

    Raises:
        ModelError: No such wheel, or files in it that are others than those we know.
        OutputError: The folder cannot be written.
    """
    place = models_folder() if folder is None else Path(folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            places = {f"{name}.tflite": path for name, (path, _) in FILES.items()}
            places[LICENSE] = "mediapipe-0.10.21.dist-info/LICENSE"
            if any(archive.getinfo(path).file_size > MOST_BYTES for path in places.values()):
                raise ValueError("a file in it is too large")
            contents = {name: archive.read(path) for name, path in places.items()}
    except UNREADABLE as error:
        raise ModelError(f"{wheel} is not the wheel of {WHEEL} ({error})") from error
    for name, (_, known) in FILES.items():
        _check(contents[f"{name}.tflite"], known, f"{wheel}: {name}.tflite")
    with output_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with writing(place / name) as hidden:
            hidden.write_bytes(content)
    return place


class Network:
    """One of the networks, one picture at a time (LiteRT gains nothing from a batch of them).

    Args:
        folder: Where `unpack_wheel` put the files.
        name: A key of `FILES`.
        threads: How many it computes with.

    Raises:
        ModelError: The file is missing or another one.
        DependencyError: ai-edge-litert is not installed.
    """

    def __init__(self, folder: AnyPath, name: str, *, threads: int = 1) -> None:
        interpreter = _litert()
        if interpreter is None:
            raise DependencyError(
                "faces are found by ai-edge-litert; run: pip install loopy-portrait[faces]"
            )
        path = Path(folder) / f"{name}.tflite"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"{path} cannot be read ({error.strerror}); run: loopy faces install"
            ) from error
        _check(content, FILES[name][1], path)
        check_number("threads", threads, least=1)
        self._network = interpreter(model_content=content, num_threads=threads)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._one_at_a_time = Lock()
        self._outputs = [output["index"] for output in self._network.get_output_details()]

    def __call__(self, picture: Float[Tensor, "h w 3"]) -> Sequence[Float[Tensor, "..."]]:
        """The outputs for one picture, in the file's order."""
        with self._one_at_a_time:  # threads may share a network
            self._network.set_tensor(self._input, picture[None].numpy())
            self._network.invoke()
            return [torch.from_numpy(self._network.get_tensor(index)) for index in self._outputs]


def _check(content: bytes, known: str, name: object) -> None:
    if hashlib.sha256(content).hexdigest() != known:
        raise ModelError(f"{name} is another file than that of {WHEEL}; run: loopy faces install")


def _litert() -> Any:
    """LiteRT's class; None where it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    return Interpreter
