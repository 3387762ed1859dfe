"""Both DWPose backends: the real libraries on tiny models of the same signatures."""

import json
import socket
import subprocess
import sys
import warnings

import onnxruntime
import pytest
import torch

from loopy.errors import ConfigurationError, DependencyError, MediaError, ModelError
from loopy.preprocess.landmarks import dwpose as dwpose_module
from loopy.preprocess.landmarks import estimator

NAMES = ("dwpose", "dwpose-pypi")


def build(name, **options):
    if name == "dwpose-pypi":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its licence; tested below
            return estimator(name, **options)
    return estimator(name, **options)


@pytest.fixture(scope="module", params=NAMES)
def dwpose(request, pose_models):
    return build(request.param, **pose_models)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (641, 367)])
def test_points_come_back_to_the_picture(dwpose, draw_people, true_points, size):
    x, y = size[0] // 3, size[1] // 2
    faces = dwpose(draw_people((x, y), size=size)[None])
    assert (faces.points[0] - true_points(x, y)).abs().max() <= 2
    assert faces.valid.all()
    assert faces.people.tolist() == [1]


def test_the_face_is_points_23_to_90(dwpose, draw_people):
    """Scores of the tiny model tell the number of a point among the 133."""
    faces = dwpose(draw_people((200, 120))[None])
    red = torch.arange(23, 91) % 3 == 0
    number = faces.scores[0, red] / faces.scores[0, red][0]
    expected = 0.5 + torch.arange(23, 91)[red] / 266
    torch.testing.assert_close(number, expected / expected[0], atol=1e-3, rtol=0)
    assert ((faces.scores > 0) & (faces.scores <= 1)).all()


def test_the_detector_sees_blue_green_red(dwpose, draw_people):
    assert dwpose(draw_people((200, 120, 255, 0, 0))[None]).people.tolist() == [1]
    assert dwpose(draw_people((200, 120, 0, 0, 255))[None]).people.tolist() == [0]


@pytest.mark.parametrize("name", NAMES)
def test_a_chair_is_nobody(name, make_pose_models, draw_people):
    faces = build(name, **make_pose_models(detector={"label": 56}))(draw_people((200, 120))[None])
    assert faces.people.tolist() == [0]
    assert not faces.valid.any()


def test_nobody_is_missing_and_not_the_whole_picture(dwpose, draw_people):
    """Green and blue alone: the pose net would find points if it were asked."""
    faces = dwpose(draw_people((200, 120, 0, 255, 255))[None])
    assert faces.points.isnan().all()
    assert faces.boxes.isnan().all()
    assert (faces.scores == 0).all()
    assert faces.people.tolist() == [0]


def test_the_larger_of_two_people_is_taken(dwpose, draw_people, true_points):
    small_and_sure, large = (80, 120), (230, 120, 235, 235, 235)
    faces = dwpose(draw_people(small_and_sure, large)[None])
    assert faces.people.tolist() == [2]
    assert (faces.points[0] - true_points(230, 120)).abs().max() <= 2


def test_a_box_ends_where_the_picture_ends(dwpose, draw_people, true_points):
    faces = dwpose(draw_people((300, 15))[None])
    left, top, right, bottom = faces.boxes[0].tolist()
    assert (top, right) == (0, 320)
    assert left == pytest.approx(260, abs=4)
    assert bottom == pytest.approx(75, abs=4)
    red = torch.arange(23, 91) % 3 == 0
    assert (faces.points[0] - true_points(300, 15))[red].abs().max() <= 2


@pytest.mark.parametrize("name", NAMES)
def test_unsure_points_are_missing(name, pose_models, draw_people):
    frames = draw_people((200, 120, 255, 160, 255))[None]
    green = torch.arange(23, 91) % 3 == 1
    faces = build(name, **pose_models)(frames)
    assert torch.equal(faces.valid[0], ~green)
    assert faces.points[0, green].isnan().all()
    assert (faces.scores[0, green] > 0).all()
    assert build(name, **pose_models, min_score=0.05)(frames).valid.all()


def test_people_are_searched_every_few_frames(pose_models, draw_people):
    alone, together = draw_people((230, 120)), draw_people((230, 120), (80, 120))
    frames = torch.stack([alone] * 3 + [together] * 4)
    assert estimator("dwpose", **pose_models, every=5)(frames).people.tolist() == [1] * 5 + [2] * 2
    assert estimator("dwpose", **pose_models, every=1)(frames).people.tolist() == [1] * 3 + [2] * 4


def test_who_jumps_out_of_the_box_is_found_at_once(dwpose, draw_people, true_points):
    places = [(80, 60), (80, 60), (230, 170), (80, 60), (230, 60)]
    faces = dwpose(torch.stack([draw_people(place) for place in places]))
    expected = torch.stack([true_points(*place) for place in places])
    assert (faces.points - expected).abs().max() <= 2
    assert (faces.boxes[[0, 1, 3], 0] < 120).all()
    assert (faces.boxes[[2, 4], 0] > 160).all()


def test_who_appears_between_two_searches_is_found(dwpose, draw_people):
    empty, person = draw_people(), draw_people((200, 120))
    faces = dwpose(torch.stack([empty, empty, person, empty, person]))
    assert faces.people.tolist() == [0, 0, 1, 0, 1]
    assert faces.valid.all(1).tolist() == [False, False, True, False, True]


def test_batches_change_nothing(pose_models, draw_people):
    """With a frame of nobody in the middle, so that rows cannot slip."""
    frames = [draw_people((150 + 9 * i, 100 + 5 * i)) for i in range(7)]
    frames[3] = draw_people()
    frames = torch.stack(frames)
    one_by_one = estimator("dwpose", **pose_models, batch=1)(frames)
    together = estimator("dwpose", **pose_models, batch=3)(frames)
    torch.testing.assert_close(together.points, one_by_one.points, equal_nan=True)
    torch.testing.assert_close(together.scores, one_by_one.scores)
    assert together.valid.all(1).tolist() == [True] * 3 + [False] + [True] * 3


def test_a_pose_model_without_a_free_batch_runs_too(make_pose_models, draw_people):
    frames = torch.stack([draw_people((200, 120))] * 3)
    models = make_pose_models(pose={"batch": 1})
    assert estimator("dwpose", **models)(frames).valid.all()


def test_both_backends_agree(pose_models, draw_people):
    frames = [draw_people((60 + 31 * i, 70 + 11 * i), size=(500, 281)) for i in range(9)]
    ours, theirs = (build(name, **pose_models)(torch.stack(frames)) for name in NAMES)
    assert ours.valid.all()
    torch.testing.assert_close(theirs.points, ours.points, atol=0.1, rtol=0)
    torch.testing.assert_close(theirs.boxes, ours.boxes, atol=0.1, rtol=0)
    torch.testing.assert_close(theirs.scores, ours.scores, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", ["detector", "pose"])
@pytest.mark.parametrize("wrong", ["gone.onnx", "https://example.com/yolox_l.onnx", ".", "a.txt"])
def test_a_wrong_path_is_refused_and_never_fetched(
    name, which, wrong, pose_models, tmp_path, monkeypatch
):
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    looked_up = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: looked_up.append(where))
    with pytest.raises(ModelError, match="nothing is downloaded"):
        estimator(name, **pose_models | {which: wrong})
    assert not looked_up


def test_other_models_are_refused(make_pose_models, pose_models, draw_people, tmp_path):
    swapped = {"detector": pose_models["pose"], "pose": pose_models["detector"]}
    with pytest.raises(ModelError, match=r"yolox_l\.onnx as detector"):
        estimator("dwpose", **swapped)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(pose_models["pose"].read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        estimator("dwpose", **pose_models | {"pose": damaged})
    frames = draw_people((200, 120))[None]
    with pytest.raises(ModelError, match="gives 17 points"):
        estimator("dwpose", **make_pose_models(pose={"points": 17}))(frames)
    with pytest.raises(ModelError, match="gives 7 columns"):
        estimator("dwpose", **make_pose_models(detector={"classes": 2}))(frames)


def test_a_damaged_file_is_named_by_dwpose_too(pose_models, tmp_path):
    damaged = tmp_path / "damaged_384.onnx"
    damaged.write_bytes(pose_models["pose"].read_bytes()[:1000])
    for which in ("detector", "pose"):
        with pytest.raises(ModelError, match="damaged_384"):
            build("dwpose-pypi", **pose_models | {which: damaged})


@pytest.mark.parametrize("library", ["rtmlib", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(library, pose_models, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyError, match=rf"{library}; .*\[preprocess\]"):
        estimator("dwpose", **pose_models)


def test_a_gpu_is_never_silently_the_cpu(pose_models):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime knows CUDA here")
    with pytest.raises(DependencyError, match="onnxruntime-gpu"):
        estimator("dwpose", **pose_models, device="cuda:0")


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"min_score": 1.5},
        {"batch": 0},
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"thresh": 0.3},
    ],
)
def test_options_that_make_no_sense_are_refused(options, pose_models):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        estimator("dwpose", **pose_models, **options)


def test_unknown_estimators_are_refused():
    with pytest.raises(ConfigurationError, match="dwpose-pypi"):
        estimator("dwpsoe")


def test_frames_are_checked(dwpose, draw_people):
    frame = draw_people((200, 120))
    with pytest.raises(MediaError, match="uint8"):
        dwpose(frame[None] / 255)
    with pytest.raises(MediaError, match=r"\(3, 240, 320\)"):
        dwpose(frame.permute(2, 0, 1))
    assert len(dwpose(frame[None][:0])) == 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_printed(name, pose_models, draw_people, capfd):
    build(name, **pose_models)(draw_people((200, 120))[None])
    assert capfd.readouterr().out == ""


GUARDED = """
import json, os, ssl, sys, warnings
import torch
from loopy.preprocess.landmarks import estimator

models = json.loads(sys.argv[1])
calls = []
watched = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
sys.addaudithook(lambda event, args: calls.append(event) if event in watched else None)
os.environ["AUX_USE_SYMLINKS"] = "open('evaluated', 'w')"

def state():
    return ssl._create_default_https_context, torch.hub.load_state_dict_from_url, dict(os.environ)

import cv2  # which sets variables of its own

before = state()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        estimator("dwpose-pypi", **models)
after = state()
print(json.dumps({
    "same": [a == b for a, b in zip(before, after)],
    "calls": calls,
    "warnings": [str(w.message) for w in caught],
}))
"""


def test_importing_dwpose_changes_nothing_in_the_process(pose_models, tmp_path):
    """Certificates, downloads and environment as before; no call out; its licence said once."""
    paths = json.dumps({name: str(path) for name, path in pose_models.items()})
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # and no other line
    assert found["same"] == [True, True, True]
    assert found["calls"] == []
    assert not (tmp_path / "evaluated").exists()
    assert len(found["warnings"]) == 1
    assert "non-commercial" in found["warnings"][0]


def test_a_package_that_is_not_there_is_named(pose_models, monkeypatch):
    dwpose_module._of_package.cache_clear()
    monkeypatch.setattr(dwpose_module, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install dwpose"):
        estimator("dwpose-pypi", **pose_models)
