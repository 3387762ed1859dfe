"""One face of a picture, framed as training frames it, and put back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from loopy.errors import FaceNotFoundError, MediaError
from loopy.faces.mesh import Face
from loopy.faces.portraits import PasteBack, face_square, feather_mask, find_faces


def face_at(x, y, size, *, roll=False):
    """A face whose 468 points fill a square."""
    steps = torch.linspace(0, size, 22)
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(-1, 2)[:478]
    mesh = torch.cat([grid + torch.tensor([x, y]), torch.zeros(478, 1)], 1)
    mesh[[33, 263]] = torch.tensor([[0.2, 0.4, 0], [0.8, 0.4, 0]]) * size + mesh.new_tensor(
        [x, y, 0]
    )
    mesh[[10, 152]] = torch.tensor([[0.5, 0.0, 0], [0.5, 1, 0]]) * size + mesh.new_tensor([x, y, 0])
    if roll:
        mesh = mesh[:, [1, 0, 2]]
    return Face(1.0, mesh.float())


SIZE = (600, 400)


def test_the_square_is_around_the_largest_face_or_the_one_of_a_number():
    large, small = face_at(300, 150, 80), face_at(100, 150, 50)
    left, top, right, bottom = face_square(SIZE, [large, small])
    assert right - left == bottom - top
    assert left < 300 < 380 < right
    assert face_square(SIZE, [large, small], face=1)[0] < 100
    with pytest.raises(FaceNotFoundError, match="has 2 faces, numbered from 0"):
        face_square(SIZE, [large, small], face=2)


@pytest.mark.parametrize(
    ("faces", "says"),
    [
        ([], "no face was found in me.png of 600 x 400 px, in parts of it, or brightened"),
        ([face_at(100, 100, 20)], "is 18 px large|is 19 px large|is 20 px large"),
        ([face_at(-60, 100, 100)], "of the face in me.png lie outside"),
        ([face_at(100, 100, 100, roll=True)], "turned by 90 degrees"),
    ],
)
def test_a_face_that_cannot_be_used_is_told_with_the_way_out(faces, says):
    with pytest.raises(FaceNotFoundError, match=says) as told:
        face_square(SIZE, faces, name="me.png")
    assert "give" in str(told.value)
    assert "\n" not in str(told.value)


def test_small_large_dark_and_many_faces_are_found(mesh, astronaut):
    close = astronaut[80:190, 165:285]
    wide = torch.full((1024, 1536, 3), 90, dtype=torch.uint8)
    wide[700:956, 1200:1456] = astronaut[::2, ::2]
    for picture in (close, wide, (astronaut * 0.06).to(torch.uint8)):
        assert len(find_faces(picture, mesh)) == 1
    crowd = astronaut[::2, ::2].repeat(5, 8, 1)
    assert len(find_faces(crowd, mesh)) == 40


def test_nothing_changes_outside_the_square_and_little_inside(astronaut):
    box = (110, 10, 336, 236)
    cut = astronaut[10:236, 110:336].permute(2, 0, 1)[None].float()
    frames = interpolate(cut, size=(256, 256), mode="bicubic", antialias=True).clamp(0, 255)
    frames = frames.round().to(torch.uint8).permute(0, 2, 3, 1)
    (pasted,) = PasteBack(astronaut, box)(frames)
    assert (pasted.float() - astronaut.float()).abs().mean() < 0.5
    (other,) = PasteBack(astronaut, box)(255 - frames)
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[10:236, 110:336] = False
    assert torch.equal(other[outside], astronaut[outside])
    fading = (other[10].float() - astronaut[10].float()).abs()[120:330]
    assert fading.max() < 8  # of 255
    assert (other[123, 223].float() - (255 - astronaut[123, 223].float())).abs().max() < 8


@given(height=st.integers(40, 90), width=st.integers(40, 90), side=st.integers(17, 40))
@settings(max_examples=20, deadline=None)
def test_a_picture_of_any_shape_becomes_a_video_of_even_sides(height, width, side):
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    box = (width - side, height - side, width, height)  # in the corner that is cut off
    frames = torch.full((2, 16, 16, 3), 255, dtype=torch.uint8)
    pasted = PasteBack(picture, box)(frames)
    assert pasted.shape == (2, height // 2 * 2, width // 2 * 2, 3)
    assert pasted[:, height - side // 2 - 1, width - side // 2 - 1].min() > 250


def test_the_mask_is_one_in_the_middle_and_none_at_the_border():
    mask = feather_mask(100)
    assert mask[20:80, 20:80].min() == 1
    assert mask[0].max() < 0.05
    assert mask[:, 0].max() < 0.05
    assert torch.equal(mask, mask.flip(0))


def test_nothing_fades_at_the_border_of_the_picture_itself():
    mask = feather_mask(100, (True, False, True, False))
    assert mask[:50, :50].min() == 1
    assert mask[-1].max() < 0.05
    picture = torch.zeros(40, 40, 3, dtype=torch.uint8)
    frames = torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)
    assert PasteBack(picture, (0, 0, 40, 40))(frames).min() == 255
    with pytest.raises(MediaError, match="is not inside the picture of 40 x 40 px"):
        PasteBack(picture, (30, 0, 60, 30))


def test_a_square_of_halves_keeps_its_size():
    picture = torch.zeros(50, 60, 3, dtype=torch.uint8)
    frames = torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)
    changed = PasteBack(picture, (4.5, 4.5, 45.5, 45.5))(frames)[0].any(-1)
    rows, columns = changed.any(1).sum(), changed.any(0).sum()
    assert rows == columns <= 41


def test_a_long_thin_picture_takes_little(mesh):
    assert find_faces(torch.zeros(16, 100_000, 3, dtype=torch.uint8), mesh) == []
