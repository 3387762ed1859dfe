"""The gate on toons it never saw, and on pictures of kinds that it was not trained on."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loopy.data.media.portrait import read_portrait
from loopy.data.media.video_reader import iterate_frames
from loopy.models.gate import Gate
from loopy.models.probe import SIDE_PX
from loopy.randomness import generator
from tools.judges.augmentation import corrupt
from tools.judges.foreign import KINDS, foreign, framed, toons
from tools.judges.practice import in_parts
from tools.judges.train_gate import accuracy, train_and_save, train_gate

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="module")
def gate():
    return Gate.from_pretrained()


def pictures_of(files):
    """Files as the gate is shown them by `LoopyPipeline.prepare`."""
    return torch.stack([read_portrait(file, size_px=SIDE_PX) for file in files])


def sample_pictures(package, folder, names):
    """Pictures that come with another package, by their names in one of its folders."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return [Path(found.submodule_search_locations[0]) / folder / name for name in names.split()]


SKIMAGE = (
    "coffee.png camera.png clock_motion.png astronaut.png gravel.png brick.png motorcycle_left.png "
    "text.png hubble_deep_field.jpg page.png moon.png grass.png retina.jpg ihc.png phantom.png "
    "cell.png motorcycle_right.png rocket.jpg horse.png chelsea.png coins.png color.png "
    "microaneurysms.png logo.png"
)
MATPLOTLIB = "grace_hopper.jpg Minduka_Present_Blue_Pack.png logo2.png"


class TestWhatItSays:
    def test_the_example_passes(self, gate):
        assert gate.passes(read_portrait(ROOT / "examples/portrait.png", size_px=128))

    def test_toons_it_never_saw_pass(self, gate):
        draw = generator("toons of the test")
        drawn = toons(60, draw)
        assert (in_parts(gate, drawn) > 0).float().mean() >= 0.95
        assert (in_parts(gate, corrupt(framed(drawn, draw), draw)) > 0).float().mean() >= 0.95

    def test_drawn_pictures_of_other_things_do_not(self, gate):
        draw = generator("others of the test")
        others = torch.cat(list(foreign(100, draw).values()))
        assert (in_parts(gate, others) <= 0).float().mean() >= 0.95

    def test_photographs_do_not(self, gate):
        """Of its training no picture was one."""
        shown = pictures_of(sample_pictures("skimage", "data", SKIMAGE))
        assert (in_parts(gate, shown) <= 0).float().mean() >= 0.95

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_a_plain_picture_does_not(self, gate, level):
        assert not gate.passes(torch.full((3, 200, 200), level / 127.5 - 1))

    @pytest.mark.parametrize("side", [64, 96, 256, 512])
    def test_the_size_hardly_matters(self, gate, side):
        picture = Image.open(ROOT / "examples/portrait.png").convert("RGB").resize((side, side))
        assert gate.passes(read_portrait(picture, size_px=side))
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        assert not gate.passes(read_portrait(Image.fromarray(noise), size_px=side))


def shared(*names):
    """Files of others that this project may not hand on; a test without them is skipped."""
    files = [path for name in names for path in sorted(SHARED.glob(name))]
    if not files:
        pytest.skip(f"no {SHARED}/{names[0]}")
    return files


def faces_of_photographs():
    """Faces cut out of the photographs of two packages."""
    (astronaut,) = sample_pictures("skimage", "data", "astronaut.png")
    (hopper,) = sample_pictures("matplotlib", "mpl-data/sample_data", "grace_hopper.jpg")
    for photograph, box in ((astronaut, (140, 0, 300, 160)), (hopper, (130, 40, 390, 300))):
        yield read_portrait(photograph, size_px=SIDE_PX, box=box)


def around_the_face(size, side):
    """A square of so much of the picture's height around where a speaker of GRID has his face."""
    (width, height), side = size, side * size[1]
    left, top = (width - side) / 2, min(0.56 * height - side / 2, height - side)
    return left, top, left + side, top + side


def right(gate, kind, shown, *, passes):
    """How many pictures, by their names, are sorted right; printed with the names of the others."""
    said = {name: gate.passes(picture) for name, picture in shown.items()}
    wrong = [name for name, passed in said.items() if passed != passes]
    print(f"{kind}: {len(shown) - len(wrong)} of {len(shown)} right, not {wrong}")
    return len(shown) - len(wrong)


@pytest.mark.slow
def test_of_forty_toons_and_forty_other_pictures_it_knows_most(gate):
    """95 % of both together: renders and the example; speakers of GRID and other photographs."""
    draw = generator("forty toons")
    renders = torch.cat([toons(20, draw), corrupt(framed(toons(19, draw), draw), draw)])
    ours = dict(enumerate(renders))
    ours["example"] = read_portrait(ROOT / "examples/portrait.png", size_px=SIDE_PX)
    others, nearer = {}, {}
    for video in [*shared("real/grid/s1/*.mpg")[:1], *shared("real/grid/others/*.mpg")]:
        speaker = Image.fromarray(next(iterate_frames(video)))
        others[video.name] = read_portrait(speaker, size_px=SIDE_PX)
        for side in (0.85, 0.7, 0.6, 0.5):
            nearer[video.name, side] = read_portrait(
                speaker, size_px=SIDE_PX, box=around_the_face(speaker.size, side)
            )
    files = sample_pictures("skimage", "data", SKIMAGE)
    files += sample_pictures("matplotlib", "mpl-data/sample_data", MATPLOTLIB)
    others |= {file.name: read_portrait(file, size_px=SIDE_PX) for file in files}
    others |= {f"face {number}": face for number, face in enumerate(faces_of_photographs())}
    sorted_right = right(gate, "toons", ours, passes=True)
    sorted_right += right(gate, "others", others, passes=False)
    assert sorted_right / (len(ours) + len(others)) >= 0.95
    right(gate, "speakers, nearer", nearer, passes=False)
    avatars = shared("portraits/*.png")
    shown = {file.name: read_portrait(file, size_px=SIDE_PX) for file in avatars}
    right(gate, "avatars by other hands", shown, passes=False)


class TestHowItIsMade:
    def test_the_card_says_what_is_measured(self, gate):
        told, measured = Gate.card()["accuracy"], accuracy(gate, pictures=40)
        assert set(told) == set(measured)
        for kind, share in {**measured["passed"], **measured["refused"]}.items():
            assert share == pytest.approx((told["passed"] | told["refused"])[kind], abs=0.1)

    def test_its_file_is_small(self):
        assert (Gate.home() / "gate.safetensors").stat().st_size < 300_000

    def test_every_weight_counts(self):
        gate, draw = Gate(), generator(0)
        gate(torch.rand(4, 3, SIDE_PX, SIDE_PX, generator=draw)).sum().backward()
        assert all(weight.grad.abs().sum() > 0 for weight in gate.parameters())

    def test_pictures_are_functions_of_the_generator(self):
        for _, paint in KINDS.values():
            first, again = (paint(2, generator(1)) for _ in range(2))
            assert torch.equal(first, again)
            assert first.shape == (2, 3, SIDE_PX, SIDE_PX)
            assert first.isfinite().all()
            assert first.abs().max() <= 1
            assert not torch.equal(first[0], first[1])

    def test_training_is_a_function_of_its_seed(self):
        first, again = (train_gate(steps=1) for _ in range(2))
        assert torch.equal(first.read.weight, again.read.weight)

    def test_training_writes_weights_and_card(self, tmp_path, capsys):
        train_and_save(out=tmp_path, steps=1, unseen=2)
        assert Gate.from_pretrained(tmp_path)
        card = json.loads((tmp_path / "gate.json").read_text())
        assert set(card["accuracy"]["refused"]) == set(KINDS)
        assert "passed" in capsys.readouterr().out
