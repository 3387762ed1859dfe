"""`loopy animate`, as a user types it."""

import os
import struct
import subprocess
import sys
import warnings
import wave
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from loopy.cli import main
from loopy.commands import animate as command
from loopy.commands.parsing import parsed
from loopy.data.media.portrait import read_box
from loopy.diffusion.options import SamplingOptions
from loopy.pipeline import LoopyPipeline


def animate(out, *words, portrait="portrait.png", sound="speech.wav", model="tiny"):
    return main(["animate", portrait, sound, "-o", out, "--model", model, *words])


def test_a_portrait_speaks(desk, capsys):
    assert animate("out.mp4", "--sheet", "sheet.png") == 0
    with av.open("out.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 8  # 7.5 frames, halves up
        assert len(video.streams.audio) == 1
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (8 * 16, 16)
    answer = capsys.readouterr()
    (summary,) = answer.out.splitlines()
    assert summary.startswith("out.mp4: 8 frames; ")
    for part in ("audio", "reference", "denoise", "decode", "write"):
        assert f"{part} " in summary
    assert summary.endswith(" s per second of video")
    assert "3/3" in answer.err  # clips
    assert {p.name for p in desk.iterdir()} == {
        "portrait.png", "speech.wav", "tiny", "out.mp4", "sheet.png",
    }  # fmt: skip


def test_a_model_may_be_the_current_folder(desk, monkeypatch):
    """As after `git clone` of one and `cd` into it."""
    monkeypatch.chdir(desk / "tiny")
    assert animate("out.mp4", model=".", portrait="../portrait.png", sound="../speech.wav") == 0
    assert Path("out.mp4").is_file()


def test_a_long_sheet_is_spread_evenly(desk, write_speech):
    write_speech(desk / "speech.wav", 2.0)
    assert animate("out.npy", "--sheet", "sheet.png", "--steps", "1") == 0
    with Image.open("sheet.png") as sheet:
        rows = np.asarray(sheet).reshape(3, 16, 8, 16, 3)
    tiles = rows.swapaxes(1, 2).reshape(24, 16, 16, 3)
    assert np.array_equal(tiles, np.load("out.npy")[np.linspace(0, 49, 24).round().astype(int)])


def test_options_reach_the_pipeline(desk):
    ratios = ("--audio_ratio", "2", "--reference_ratio", "1", "--guidance_stop", "0.9")
    assert animate("out.npy", "--seed", "3", "--steps", "1", *ratios, "--box", "[0,0,20,20]") == 0
    pipe = LoopyPipeline.from_pretrained("tiny")
    options = SamplingOptions(1, audio_ratio=2.0, reference_ratio=1.0, guidance_stop=0.9)
    subject = pipe.prepare("portrait.png", box=(0, 0, 20, 20))
    video = pipe(subject, "speech.wav", seed=3, options=options)
    assert np.array_equal(np.load("out.npy"), video.frames)


def test_the_longest_sound_is_an_option(desk, capsys):
    assert animate("out.npy", "--longest_s", "0.2") == 2
    assert "speech.wav lasts longer than" in capsys.readouterr().err
    assert not (desk / "out.npy").exists()
    assert animate("out.npy", "--longest_s", "0.4", "--steps", "1") == 0


@pytest.mark.parametrize("late", ["pictures", "sound"])
def test_the_whole_voice_of_a_video_is_spoken(desk, late):
    """Its pictures are not shown, so when they begin is of no account."""
    with av.open("talk.mkv", "w") as talk, wave.open("speech.wav") as speech:
        pictures = talk.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        sound = talk.add_stream("pcm_s16le", rate=16_000, layout="mono")
        grey = av.VideoFrame.from_ndarray(np.full((32, 32), 128, np.uint8), "gray")
        for index in range(8):
            grey.pts, grey.time_base = index + 4 * (late == "pictures"), Fraction(1, 25)
            talk.mux(pictures.encode(grey))
        samples = np.frombuffer(speech.readframes(-1), np.int16)[None]
        heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        heard.sample_rate, heard.time_base = 16_000, Fraction(1, 16_000)
        heard.pts = 3_200 * (late == "sound")
        for packet in (*pictures.encode(), *sound.encode(heard), *sound.encode()):
            talk.mux(packet)
    assert animate("voice.npy", "--steps", "1") == 0
    assert animate("talk.npy", "--steps", "1", sound="talk.mkv") == 0
    assert np.array_equal(np.load("voice.npy"), np.load("talk.npy"))


def test_a_new_folder_takes_pictures(desk):
    assert animate("frames") == 0
    assert sorted(p.name for p in (desk / "frames").iterdir())[-1] == "000007.png"


def test_a_warning_is_one_line(desk, make_pipeline, capsys):
    make_pipeline(toons=True, domain="drawings").save_pretrained("tiny")
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert animate("out.npy") == 0
    lines = [n for n in capsys.readouterr().err.splitlines() if "loopy:" in n]
    assert len(lines) == 1
    assert lines[0].startswith("loopy: warning: this model animates drawings; ")


def bomb(path):
    """A PNG of 60000 x 60000 px, in a hundred bytes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (head, data)
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def not_finite(path):
    """A WAV file of float samples, one of which is not a number."""
    samples = np.zeros(3200, "<f4")
    samples[1600] = np.nan
    form = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 12_800)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body) + 12_800) + body + samples.tobytes())


def cut_weights(path):
    """One tensor loses its last row."""
    state = load_file(path)
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    state[name] = state[name][:-1].contiguous()
    save_file(state, path)


def is_refused(desk, told, capsys, *, out="out.mp4", more=(), **words):
    """Code 2, one line that tells it, and nothing left behind."""
    (desk / "out.mp4").write_text("of an earlier run")
    before = sorted(desk.rglob("*"))
    capsys.readouterr()
    assert animate(out, *more, **words) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("loopy: error: ")
    assert told in answer.err
    assert answer.err.count("\n") == 1
    assert sorted(desk.rglob("*")) == before
    assert (desk / "out.mp4").read_text() == "of an earlier run"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"portrait": "lost.png"}, "picture lost.png does not exist; check the path"),
        ({"portrait": "tiny"}, "picture tiny is a folder; give a file"),
        ({"portrait": "speech.wav"}, "picture speech.wav cannot be used"),
        ({"sound": "lost.wav"}, "sound lost.wav does not exist; check the path"),
        (
            {"sound": "portrait.png"},
            "sound portrait.png cannot be decoded: it is a text",
        ),
        ({"model": "nobody"}, "no model 'nobody': give an embedded one"),
        ({"model": "no/body"}, "no model 'no/body': give an embedded one"),
        ({"out": "no/out.mp4"}, "folder no does not exist; make it first"),
        ({"out": "tiny"}, "tiny is there and not an empty folder; give another name"),
        ({"out": "out.gif"}, "unknown suffix .gif; use .mp4"),
        ({"out": "/proc/out.mp4"}, "/proc/out.mp4 cannot be written"),
        ({"more": ["--sheet", "sheet.gif"]}, "a contact sheet is .png or .jpg"),
        ({"more": ["--sheet", "no/sheet.png"]}, "folder no does not exist; make it first"),
        ({"more": ["--steps", "0"]}, "steps must be at least 1"),
        ({"more": ["--steps", "many"]}, "see loopy animate --help"),
        ({"more": ["--bax", "1"]}, "see loopy animate --help"),
        ({"more": ["--device", "abacus"]}, "no device 'abacus'"),
        ({"more": ["--device", "meta"]}, "no device 'meta' computes anything; try cpu"),
        ({"more": ["--crf", "-1"]}, "is -1, expected a whole number from 0 to 51"),
        ({"more": ["--crf", "52"]}, "is 52, expected a whole number from 0 to 51"),
        ({"out": "."}, "result '.' is no name of a file; give one, for example out.mp4"),
        ({"out": ""}, "is no name of a file"),
        ({"out": "/"}, "result '/' is no name of a file"),
        ({"out": "tiny/vae/out.mp4"}, "out.mp4 is inside the model's vae tiny/vae"),
        ({"more": ["--sheet", "portrait.png"]}, "sheet portrait.png would replace portrait"),
        ({"more": ["--sheet", "new/s.png"], "out": "new"}, "folder new does not exist"),
        ({"more": ["--box", "[0,0,99,99]"]}, "is not inside picture portrait.png"),
        ({"more": ["--box", "0", "0", "20"]}, "box is '0 0 20'; give left top right bottom"),
        ({"more": ["--box", "-1", "0", "20", "20"]}, "as in '40 20 440 420'"),
        ({"more": ["--box", "-1,0,20,20"]}, "box is '-1,0,20,20'; give left top right bottom"),
        ({"more": ["--box", "the", "middle"]}, "see loopy animate --help"),
        ({"more": ["--box", "the middle"]}, "box is 'the middle'; give left top right bottom"),
        ({"more": ["--box"]}, "box is ''; give left top right bottom"),
    ],
)
def test_wrong_words(desk, capsys, words, told):
    is_refused(desk, told, capsys, **words)


@pytest.mark.parametrize(
    "words",
    [
        ["--box", "[3,4,23,24]"],
        ["--box", "(3, 4, 23, 24)"],
        ["--box", "3 4 23 24"],
        ["--box=3 4 23 24"],
        ["--box", "3,4,23,24"],
        ["--box", "3", "4", "23", "24"],
        ["--box=3", "4", "23", "24"],
        ["--box", "3,", "4,", "23,", "24"],
        ["--box", "[3,", "4,", "23,", "24]"],
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_every_form_of_a_box(words, last):
    media = ["portrait.png", "speech.wav", "-o", "out.npy"]
    given = command.separated([*media, *words] if last else [*words, *media])
    flat = {"sampling": SamplingOptions}
    options = parsed(command.animate, given, verb="animate", flat=flat)
    assert read_box(options["box"]) == (3, 4, 23, 24)
    assert (options["sound"], options["out"]) == (Path("speech.wav"), Path("out.npy"))


def test_the_face_is_put_back_into_the_whole_picture(desk):
    picture = np.random.default_rng(0).integers(0, 255, (61, 90, 3), np.uint8)
    Image.fromarray(picture).save("wide.png")
    words = ("--box", "20", "10", "60", "50", "--paste_back")
    assert animate("out.npy", *words, portrait="wide.png") == 0
    video = np.load("out.npy")
    assert video.shape == (8, 60, 90, 3)
    inside = np.zeros((60, 90), bool)
    inside[10:50, 20:60] = True
    assert (video[:, ~inside] == picture[:60][~inside]).all()
    assert (video[0, 25:35, 35:45] != picture[25:35, 35:45]).any()


def test_a_face_is_framed_wherever_it_is(desk, faces_installed, capsys):
    data = pytest.importorskip("skimage.data")
    wide = np.zeros((512, 1024, 3), np.uint8)
    wide[:, :512] = data.astronaut()
    Image.fromarray(wide).save("wide.png")
    assert animate("out.npy", "--paste_back", portrait="wide.png") == 0
    changed = (np.load("out.npy") != wide).any(-1).any(0)
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    assert 90 < columns[0] < 178 < 273 < columns[-1] < 360  # the face is at 178 to 273
    assert rows[0] < 69 < 177 < rows[-1] < 260
    assert animate("none.npy", "--crop", "center", portrait="wide.png") == 0
    assert animate("other.npy", "--face", "1", portrait="wide.png") == 2
    assert "has 1 faces" in capsys.readouterr().err
    assert animate("other.npy", "--face", "1", "--crop", "center", portrait="wide.png") == 2
    assert "no face is looked for" in capsys.readouterr().err
    Image.fromarray(wide[:, 512:]).save("empty.png")
    assert animate("empty.npy", portrait="empty.png") == 2
    assert "no face was found" in capsys.readouterr().err
    assert not Path("empty.npy").exists()


def test_a_tall_portrait_is_told_of(desk, capsys):
    with Image.open("portrait.png") as picture:
        picture.resize((40, 71)).save("tall.png")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert animate("out.npy", "--steps", "1", portrait="tall.png") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert told == [
        "loopy: warning: picture tall.png is 40 x 71 px: its middle square is used, "
        "0 15.5 40 55.5; run `loopy faces install` to find the face, or give another square, as in "
        "--box '0 0 40 40'"
    ]
    assert animate("out2.npy", "--steps", "1", "--box", "0 0 40 40", portrait="tall.png") == 0


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("bomb.png", bomb, "more pixels than the safe limit"),
        ("empty.wav", Path.touch, "sound empty.wav is empty"),
        ("noise.wav", lambda path: path.write_bytes(b"RIFFabc"), "noise.wav cannot be decoded"),
        ("nan.wav", not_finite, "sound nan.wav"),
    ],
)
def test_unusable_media(desk, capsys, name, make, told):
    make(desk / name)
    is_refused(desk, told, capsys, **{"portrait" if ".png" in name else "sound": name})


def test_under_a_frame_of_sound(desk, write_speech, capsys):
    write_speech(desk / "speech.wav", 0.039)
    is_refused(desk, "give at least", capsys)


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("vae/config.json", Path.unlink, "the model lacks tiny/vae/config.json"),
        ("vae/config.json", lambda path: path.write_text("{"), "is not readable JSON"),
        ("vae/config.json", lambda path: path.write_text("[]"), "holds no JSON object"),
        ("audio_to_latents/config.json", lambda path: path.write_text("{}"), "can be built"),
        ("model_index.json", lambda path: path.write_text('{"vae": 3}'), "is it a model of loopy?"),
        ("denoiser/diffusion_pytorch_model.safetensors", cut_weights, "is not the file that"),
        ("audio_encoder/model.safetensors", lambda path: path.write_bytes(b"1"), "is damaged, or"),
        ("vae/diffusion_pytorch_model.safetensors", Path.unlink, "copy the whole folder"),
    ],
)
def test_damaged_models(desk, capsys, file, damage, told):
    damage(desk / "tiny" / file)
    is_refused(desk, told, capsys)


def test_without_words_it_says_what_is_missing(capsys):
    assert main(["animate"]) == 2
    assert "required" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["talk.mp4", "link.mp4", "tiny/../talk.mp4"])
def test_the_voice_is_not_written_over(desk, capsys, out):
    animate("talk.mp4", "--steps", "1")
    (desk / "link.mp4").symlink_to("talk.mp4")
    before = (desk / "talk.mp4").read_bytes()
    capsys.readouterr()
    assert animate(out, sound="talk.mp4") == 2
    told = capsys.readouterr().err
    assert (
        told == f"loopy: error: video {Path(out)} would replace sound talk.mp4; give another name\n"
    )
    assert (desk / "talk.mp4").read_bytes() == before


def test_nobody_else_speaks_and_a_console_that_cannot_spell_is_no_failure(desk):
    """A progress bar alone is on the error stream."""
    words = ["animate", "portrait.png", "speech.wav", "-o", "声.mp4", "--model", "tiny"]
    done = subprocess.run(
        [sys.executable, "-m", "loopy", *words],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert done.stdout.startswith(r"\u58f0.mp4: 8 frames")
    assert Path("声.mp4").is_file()
    lines = [line for line in done.stderr.splitlines() if line]
    assert all(line.startswith(r"\u58f0.mp4: ") for line in lines), lines
