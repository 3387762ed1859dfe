"""The track of a mirrored picture."""

import torch

from loopy.motion import MIRRORED_68, MotionSequence, mirrored
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, landmarks, random_identities


def test_every_point_has_one_partner_and_twice_is_nothing():
    draw = generator("mirror")
    motion = MotionSequence(
        torch.rand(3, 68, 2, generator=draw) * 64,
        torch.rand(3, 3, generator=draw),
        torch.rand(3, 68, generator=draw) > 0.3,
        64,
    )
    assert sorted(MIRRORED_68) == list(range(68))
    again = mirrored(mirrored(motion))
    torch.testing.assert_close(again.points, motion.points)
    torch.testing.assert_close(again.pose, motion.pose)
    assert torch.equal(again.valid, motion.valid)


def test_it_is_the_face_turned_the_other_way():
    face = random_identities(1, generator("mirror", "face"))
    controls = torch.zeros(2, len(CONTROLS))
    for name, value in (("yaw", 0.2), ("roll", 0.1)):
        controls[:, CONTROLS.index(name)] = torch.tensor([value, -value])
    controls[:, CONTROLS.index("open")] = 0.6
    points, valid = landmarks(face.expand(2), controls, size_px=64)
    pose = controls[:, [CONTROLS.index(name) for name in ("yaw", "pitch", "roll")]]
    other = mirrored(MotionSequence(points, pose, valid, 64))
    torch.testing.assert_close(other.points[0], points[1], atol=0.5, rtol=0)
    torch.testing.assert_close(other.pose[0], pose[1])
    assert (other.points[0] - points[0]).abs().max() > 3
