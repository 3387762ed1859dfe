"""`loopy animate`: a portrait and a sound become a video."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from loopy.commands.animate_pipe import spoken_clips
from loopy.commands.parsing import parsed
from loopy.data.media.container import existing_file
from loopy.data.media.live_sound import open_pipe, standard_input
from loopy.data.media.outputs import check_outputs
from loopy.data.media.portrait import Crop, read_box
from loopy.data.media.sound import LONGEST_S
from loopy.data.media.video import contact_sheet, evenly_spread
from loopy.data.media.video_file import VIDEO_FORMATS, LiveTrack
from loopy.data.media.writer import check_result, open_writer
from loopy.devices import Precision, dtype_of
from loopy.diffusion.options import SamplingOptions
from loopy.drafts import check_place, remove_dead_drafts, writing
from loopy.errors import OutputError
from loopy.faces.portraits import PasteBack
from loopy.memory import in_steady_memory
from loopy.models.folder import read_places
from loopy.pipeline import LoopyPipeline
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, frame_count

SHEET_FRAMES = 24
SHEET_FORMATS = (".png", ".jpg")


def animate(
    portrait: Path,
    sound: Path,
    *,
    out: Path,
    model: str = "toon",
    seed: int = 0,
    box: str | None = None,
    crop: Crop = "face",
    face: int = 0,
    paste_back: bool = False,
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    sheet: Path | None = None,
    device: str = "cpu",
    dtype: Precision = "float32",
    compile: bool = False,
    crf: int = 18,
    longest_s: float = LONGEST_S,
) -> None:
    """Makes a portrait speak, clip by clip, in memory that grows by the sound's samples only.

    A sound that comes through a pipe is spoken as it comes, in memory that does not grow.

    Args:
        portrait: A picture of a face.
        sound: A file with a voice; also a video's sound; - is standard input, spoken as it comes.
        out: The result (also -o): .mp4, .mov or .mkv, .npy for an array, or a new folder for PNG
            files.
        model: A model that comes with loopy, a model folder, or a hub id (owner/name).
        seed: The same seed gives the same video.
        box: Square of the portrait to use, 'LEFT TOP RIGHT BOTTOM' in pixels.
        crop: Without a box: the square around the face as training shows faces, where `loopy faces
            install` was run, else the middle; "center": the largest square in the middle; "none":
            the picture, which is square.
        face: Which face, 0 is the largest; `loopy faces show` lists them.
        paste_back: The video is the whole picture, with the speaking face in its place.
        sampling: What to sample otherwise than the model itself says.
        sheet: A contact sheet, .png or .jpg: frames spread evenly over the video, the speaking
            square of each. Not of standard input.
        device: Where to compute, for example cpu or cuda.
        dtype: Precision of the networks that denoise.
        compile: Let torch.compile make the denoiser faster: minutes at the start, for long videos.
        crf: Quality of the video, 0 to 51: 0 is lossless, 18 looks so, 23 is smaller.
        longest_s: A sound that lasts longer is refused: its samples take 0.23 GB an hour.

    Raises:
        LoopyError: An input is unusable, or an output cannot be written or would replace an input.
            Nothing is left behind; a video that is finished stays if its sheet cannot be written.
    """
    existing_file(portrait, "picture")
    piped = str(sound) == "-"
    inputs = {"portrait": portrait} if piped else {"portrait": portrait, "sound": sound}
    if not piped:
        existing_file(sound, "sound")
    square = None if box is None else read_box(box)
    results = {"video": out}
    check_result(out)
    if sheet is not None:
        if piped:
            raise OutputError(f"{sheet}: no contact sheet of a sound that comes through a pipe")
        if sheet.suffix.lower() not in SHEET_FORMATS:
            raise OutputError(f"{sheet}: a contact sheet is {' or '.join(SHEET_FORMATS)}")
        check_place(sheet)
        results["sheet"] = sheet
    check_outputs(results, inputs | read_places(model))
    remove_dead_drafts(*(path.parent for path in results.values()))
    watch, start = Stopwatch(), perf_counter()
    with ExitStack() as stack:
        spoken = stack.enter_context(open_pipe(standard_input())) if piped else None
        track = None
        if spoken is not None and out.suffix.lower() in VIDEO_FORMATS:
            track = LiveTrack(rate_hz=spoken.rate_hz, layout=spoken.layout)
        writer = stack.enter_context(open_writer(out, sound=track if piped else sound, crf=crf))
        with watch("load"):
            pipe = LoopyPipeline.from_pretrained(model).to(device, dtype=dtype_of(dtype))
            if compile:
                pipe.network.compile_denoiser()
        samples = torch.zeros(0)
        if spoken is None:
            with watch("audio"):
                samples = pipe.load_audio(sound, longest_s=longest_s)
        with watch("reference"):
            framed = pipe.frame(portrait, box=square, crop=crop, face=face)
            subject = pipe.prepare(framed)
            put_back = PasteBack(framed.pixels(), framed.square) if paste_back else None
        given = {"seed": seed, "options": sampling, "stopwatch": watch}
        if spoken is None:
            ahead = pipe.vae.device.type == "cpu"
            clips = pipe.stream(subject, samples, ahead=ahead, **given)
        else:
            session = pipe.session(subject, rate_hz=spoken.rate_hz, **given)
            clips = spoken_clips(session, spoken, track, longest_s=longest_s)
        total = None if piped else pipe.num_clips(samples)
        shown, made = evenly_spread(frame_count(len(samples)), SHEET_FRAMES), 0
        pictures = []
        for clip in tqdm(in_steady_memory(clips), total=total, unit="clip", desc=out.name):
            with watch("write"):
                writer.write(clip if put_back is None else put_back(clip))
            if sheet is not None:
                pictures.append(clip[shown[(shown >= made) & (shown < made + len(clip))] - made])
            made += len(clip)
    cost = (perf_counter() - start) * float(FPS) / made
    print(f"{out}: {made} frames; {watch}; {cost:.1f} s per second of video")
    if sheet is not None:  # last: the video stays where there is no room for it
        with writing(sheet) as hidden:
            contact_sheet(torch.cat(pictures)).save(hidden)


def run(words: Sequence[str]) -> None:
    """Runs the verb with the words behind it."""
    flat = {"sampling": SamplingOptions}
    animate(**parsed(animate, separated(words[1:]), verb="animate", flat=flat))


def separated(words: Sequence[str]) -> list[str]:
    """The short ``-o`` written out, and four numbers joined to ``--box``: they need no quotes."""
    words = [part for word in words for part in re.split("(?<=^--box)=", word)]
    words = [re.sub("^-o=?(?=.)", "--out=", word) for word in words]
    words = ["--out" if word == "-o" else word for word in words]
    if "--box" not in words:
        return words
    first = words.index("--box") + 1
    numbers = list(takewhile(_is_number, words[first : first + 4])) or words[first : first + 1]
    return [*words[: first - 1], f"--box={' '.join(numbers)}", *words[first + len(numbers) :]]


def _is_number(word: str) -> bool:
    try:
        float(word.strip("[](),"))
    except ValueError:
        return False
    return True
