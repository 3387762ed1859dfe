"""Real faces found by the real networks."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loopy.data.media.video_reader import iterate_frames
from loopy.faces.mesh import POINTS_68, Face

OPENINGS = Path(__file__).with_name("mediapipe_openings.json")
"""Distance of the inner lips (points 13 and 14) in each frame of the clips, in pixels, read by
mediapipe 0.10.21 itself: FaceMesh(static_image_mode=False, refine_landmarks=False)."""


def turned(picture, degrees):
    image = Image.fromarray(picture.numpy()).rotate(-degrees, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))


def test_one_face_with_its_parts_in_their_places(mesh, astronaut):
    (face,) = mesh(astronaut)
    left, top, right, bottom = face.box.tolist()
    assert 160 < left < 200
    assert 260 < right < 290
    assert 60 < top < 100
    assert 160 < bottom < 200
    assert face.score > 0.9
    points = face.points
    eyes, mouth = points[36:48].mean(0), points[48:].mean(0)
    assert eyes[1] < points[30, 1] < mouth[1] < points[8, 1]  # eyes, nose, mouth, chin
    irises = face.mesh[468:, :2].reshape(2, 5, 2).mean(1)
    corners = points[[36, 39, 42, 45]]
    assert corners[0, 0] < irises[0, 0] < corners[1, 0]
    assert corners[2, 0] < irises[1, 0] < corners[3, 0]


def test_no_face_where_there_is_none(mesh):
    assert mesh(torch.zeros(200, 300, 3, dtype=torch.uint8)) == []


def test_the_pose_follows_the_picture(mesh, astronaut):
    yaw, pitch, roll = mesh(astronaut)[0].pose.tolist()
    mirrored = mesh(astronaut.flip(1))[0].pose.tolist()
    assert mirrored == pytest.approx([-yaw, pitch, -roll], abs=0.06)
    assert mesh(turned(astronaut, 20))[0].pose[2] - roll == pytest.approx(np.radians(20), abs=0.06)


def test_the_pose_of_a_head_that_is_turned_by_hand():
    mesh = torch.zeros(478, 3)
    mesh[33], mesh[263] = torch.tensor([-1.0, 0, 0]), torch.tensor([1.0, 0, 0])
    mesh[10], mesh[152] = torch.tensor([0.0, -1, 0]), torch.tensor([0.0, 1, 0])
    for axis, angle in ((0, 0.3), (1, -0.2), (2, 0.4)):
        sine, cosine = np.sin(angle), np.cos(angle)
        turn = {
            0: [[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]],  # its nose (-z) goes right
            1: [[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]],  # and down
            2: [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]],
        }[axis]
        face = Face(1.0, mesh @ torch.tensor(turn, dtype=torch.float32).T)
        expected = [0.0, 0.0, 0.0]
        expected[axis] = angle
        assert face.pose.tolist() == pytest.approx(expected, abs=1e-5)


def test_two_faces_largest_first_and_each_keeps_its_track(mesh, astronaut):
    large = astronaut[:260, 90:350]
    small = Image.fromarray(large.numpy()).resize((200, 200), Image.Resampling.LANCZOS)
    both = torch.zeros(260, 460, 3, dtype=torch.uint8)
    both[:200, :200], both[:, 200:] = torch.from_numpy(np.array(small)), large
    first, second = mesh(both)
    assert first.area > second.area
    assert first.box[0] > second.box[2]
    frames = [both.roll(-4 * step, 1) for step in range(6)]
    followed = list(mesh.follow(frames))
    assert all(set(faces) == {0, 1} for faces in followed)
    for faces in zip(*(found.values() for found in followed), strict=True):
        moved = faces[-1].points - faces[0].points
        assert moved.mean(0).tolist() == pytest.approx([-20, 0], abs=1)


def test_a_face_that_comes_back_is_found_again(mesh, astronaut):
    nothing = torch.zeros_like(astronaut)
    found = [list(faces) for faces in mesh.follow([astronaut, nothing, nothing, astronaut])]
    assert found == [[0], [], [], [1]]


def test_two_tracks_that_meet_are_one(mesh, astronaut):
    """A face that jumps further than a look can follow is found anew, and then both are there."""
    face = astronaut[60:190, 165:285]
    frames = []
    for left in [40] * 4 + [110] * 9:
        frames.append(torch.full((260, 360, 3), 90, dtype=torch.uint8))
        frames[-1][60:190, left : left + 120] = face
    counts = [len(faces) for faces in mesh.follow(frames)]
    assert set(counts[9:]) == {1}


def test_networks_are_shared_by_threads(mesh, astronaut):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(mesh, [astronaut] * 6))
    first = found[0][0].mesh
    assert all(torch.equal(faces[0].mesh, first) for faces in found)


def test_the_68_points_are_68():
    assert len(POINTS_68) == 68
    assert max(POINTS_68) < 468


def test_mouths_of_real_people_open_as_mediapipe_itself_reads_them(mesh, clips):
    read = json.loads(OPENINGS.read_text())
    for clip in clips:
        frames = map(torch.from_numpy, iterate_frames(clip))
        found = [faces[0] for faces in mesh.follow(frames)]  # a face in every frame, one track
        ours = torch.stack([(face.mesh[13] - face.mesh[14])[:2].norm() for face in found])
        theirs = torch.tensor(read[clip.stem])
        assert len(ours) == len(theirs) == 75
        assert torch.corrcoef(torch.stack([ours, theirs]))[0, 1] > 0.995
        assert (ours - theirs).abs().mean() < 0.3  # pixels; colours are converted by other code
