import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.synthetic.face import CONTROLS, Identity, landmarks, random_identities, render

LIMITS = {
    **dict.fromkeys(("open", "wide", "round", "teeth", "blink"), (0.0, 1.0)),
    **dict.fromkeys(("smile", "gaze_x", "gaze_y", "brow"), (-1.0, 1.0)),
    "yaw": (-0.45, 0.45),
    "pitch": (-0.3, 0.3),
    "roll": (-0.25, 0.25),
    "shift_x": (-0.06, 0.06),
    "shift_y": (-0.06, 0.06),
}


def people(n: int, seed: int = 0) -> Identity:
    return random_identities(n, torch.Generator().manual_seed(seed))


def pose(n: int = 1, **values: float | list[float]) -> torch.Tensor:
    controls = torch.zeros(n, len(CONTROLS))
    for name, value in values.items():
        controls[:, CONTROLS.index(name)] = torch.tensor(value)
    return controls


def anywhere(n: int, seed: int = 0) -> torch.Tensor:
    low, high = torch.tensor([LIMITS[name] for name in CONTROLS]).unbind(1)
    return low + (high - low) * torch.rand(n, 14, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    size_px=st.sampled_from([32, 48, 64, 97]),
    values=st.tuples(
        *[
            st.sampled_from([2 * LIMITS[name][0], 0.0, 2 * LIMITS[name][1]])
            | st.floats(*LIMITS[name])
            for name in CONTROLS
        ]
    ),
)
def test_any_face_in_any_pose_is_a_picture(
    seed: int, size_px: int, values: tuple[float, ...]
) -> None:
    controls = torch.tensor([values]).expand(2, -1)
    pictures = render(people(2, seed), controls, size_px=size_px)
    points, _ = landmarks(people(2, seed), controls, size_px=size_px)
    assert pictures.shape == (2, 3, size_px, size_px)
    assert pictures.isfinite().all()
    assert pictures.abs().max() <= 1
    assert points.isfinite().all()


def test_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    first, again, other = (render(people(4, seed), pose(4), size_px=48) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.1


def test_a_talker_does_not_depend_on_how_many_are_drawn_with_it() -> None:
    controls = anywhere(20)
    together = render(people(20), controls, size_px=64)
    alone = torch.cat([render(people(20)[i], controls[i : i + 1], size_px=64) for i in range(20)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(people(5).skin, people(20)[:5].skin)


def test_expanded_talker_equals_repeated_talker() -> None:
    one = people(3)[1]
    controls = anywhere(4)
    assert len(one) == 1
    torch.testing.assert_close(
        render(one.expand(4), controls, size_px=48),
        render(people(3)[[1] * 4], controls, size_px=48),
    )


def test_no_rows_give_no_pictures() -> None:
    assert render(people(2)[:0], pose(0), size_px=32).shape == (0, 3, 32, 32)


def test_opening_changes_the_lower_face_only() -> None:
    identity = people(12)
    shut, wide = (render(identity, pose(12, open=value), size_px=96) for value in (0.0, 1.0))
    points, _ = landmarks(identity, pose(12, open=1.0), size_px=96)
    changed = (shut - wide).abs().amax(1) > 1e-4
    for i in range(12):
        rows, columns = changed[i].nonzero().unbind(1)
        assert rows.min() > points[i, 0, 1] - 1  # from there on the jaw follows
        assert rows.max() < points[i, 8, 1] + 3  # down to the chin
        assert columns.min() > points[i, 0, 0] - 6  # hair follows it too
        assert columns.max() < points[i, 16, 0] + 6
        left, right = points[i, [48, 54], 0].long().tolist()
        mouth = changed[i, int(points[i, 33, 1]) :, left : right + 1]
        assert mouth.sum() > 0.5 * changed[i].sum()


def test_backdrop_is_static() -> None:
    pictures = render(people(6)[[2]].expand(30), anywhere(30), size_px=64)
    corners = torch.cat([pictures[:, :, :4, :4], pictures[:, :, :4, -4:]], -1)
    assert torch.equal(corners, corners[:1].expand_as(corners))
    still = (pictures == pictures[:1]).all(1).all(0)
    assert still.float().mean() > 0.15


def test_points_lie_inside_the_picture() -> None:
    for size_px in (64, 128):
        points, valid = landmarks(people(200), anywhere(200), size_px=size_px)
        assert points.shape == (200, 68, 2)
        assert valid.float().mean() > 0.99
        assert ((points[valid] >= 0) & (points[valid] < size_px)).all()


def test_the_open_mouth_is_dark_between_its_points() -> None:
    identity, controls = people(40), anywhere(40)
    controls[:, CONTROLS.index("open")] = 0.8
    for name in ("teeth", "round"):
        controls[:, CONTROLS.index(name)] = 0.0
    pictures = render(identity, controls, size_px=128)
    points, _ = landmarks(identity, controls, size_px=128)
    inside = torch.lerp(points[:, 62], points[:, 66], 0.3).long()
    rows = torch.arange(40)
    throat = pictures[rows, :, inside[:, 1], inside[:, 0]]
    torch.testing.assert_close(
        throat, torch.tensor([-0.56, -0.94, -0.90]).expand(40, -1), atol=0.12, rtol=0
    )
    for index, out in ((62, -1), (66, 1)):  # one pixel and a half beyond the edge there is lip
        across = points[:, 66] - points[:, 62]
        beyond = points[:, index] + out * 1.5 * across / across.norm(dim=1, keepdim=True)
        x, y = beyond.long().unbind(1)
        assert (pictures[rows, 0, y, x] > -0.56 + 0.1).float().mean() > 0.9


def test_inner_lip_distance_grows_with_opening() -> None:
    openings = torch.linspace(0, 1, 11).tolist()
    for teeth in (0.0, 1.0):
        points, _ = landmarks(people(1).expand(11), pose(11, open=openings, teeth=teeth))
        distance = (points[:, 66] - points[:, 62]).norm(dim=1)
        assert (distance.diff() > 0.5).all()


def test_wide_and_round_change_the_mouth_width() -> None:
    narrow, rest, wide = (
        (lambda points: points[0, 54, 0] - points[0, 48, 0])(landmarks(people(1), controls)[0])
        for controls in (pose(round=1.0), pose(), pose(wide=1.0))
    )
    assert narrow < 0.8 * rest < rest < 0.9 * wide


def test_teeth_are_white() -> None:
    shown, hidden = (
        render(people(8), pose(8, open=0.5, wide=0.5, teeth=teeth), size_px=96)
        for teeth in (1.0, 0.0)
    )
    points, _ = landmarks(people(8), pose(8, open=0.5, wide=0.5, teeth=1.0), size_px=96)
    x, y = (points[:, 62] + torch.tensor([0.0, 1.5])).long().unbind(1)
    rows = torch.arange(8)
    assert (shown[rows, :, y, x] > 0.5).all()
    assert (hidden[rows, 2, y, x] < 0.0).all()


def test_blink_closes_the_lids() -> None:
    points, _ = landmarks(people(1).expand(2), pose(2, blink=[0.0, 1.0]))
    opening = (points[:, 41] - points[:, 37]).norm(dim=1)
    assert opening[1] < 0.1 * opening[0]


def test_gaze_moves_the_pupil() -> None:
    identity = people(8)
    points, _ = landmarks(identity, pose(8), size_px=128)
    left, right = (render(identity, pose(8, gaze_x=gaze), size_px=128) for gaze in (-1.0, 1.0))
    eye = points[:, 36:42].mean(1).long()
    for i, (x, y) in enumerate(eye.tolist()):
        west, east = (slice(x - 5, x), slice(x + 1, x + 6))
        rows = slice(y - 1, y + 2)
        assert left[i, :, rows, west].mean() < left[i, :, rows, east].mean()
        assert right[i, :, rows, east].mean() < right[i, :, rows, west].mean()


def test_opposite_yaw_moves_the_nose_the_other_way() -> None:
    points, _ = landmarks(people(5)[[3]].expand(3), pose(3, yaw=[-0.4, 0.0, 0.4]))
    nose, chin = points[:, 30, 0], points[:, 8, 0]
    torch.testing.assert_close(nose[0] + nose[2], 2 * nose[1])
    assert nose[2] > nose[1] + 5
    assert (nose[2] - nose[1]) > 2 * (chin[2] - chin[1])


@pytest.mark.parametrize(("name", "axis"), [("shift_x", 0), ("shift_y", 1)])
def test_shift_is_a_fraction_of_the_picture(name: str, axis: int) -> None:
    points, _ = landmarks(people(1).expand(2), pose(2, **{name: [0.0, 0.05]}), size_px=100)
    moved = points[1] - points[0]
    torch.testing.assert_close(moved[:, axis], torch.full((68,), 5.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[:, 1 - axis], torch.zeros(68), atol=1e-3, rtol=0)


def test_roll_turns_the_eye_line() -> None:
    points, _ = landmarks(people(1), pose(roll=0.2))
    x, y = (points[0, 45] - points[0, 36]).unbind()
    torch.testing.assert_close(torch.atan2(y, x), torch.tensor(0.2), atol=1e-4, rtol=0)


def test_sizes_show_the_same_drawing() -> None:
    identity, controls = people(12), anywhere(12)
    large, small = (render(identity, controls, size_px=size_px) for size_px in (192, 64))
    assert (torch.nn.functional.avg_pool2d(large, 3) - small).abs().mean() < 0.02
    torch.testing.assert_close(
        landmarks(identity, controls, size_px=192)[0],
        3 * landmarks(identity, controls, size_px=64)[0],
        atol=1e-3,
        rtol=1e-5,
    )
