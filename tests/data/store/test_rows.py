import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from loopy.data.store.rows import ByteRange, RowRead, merge
from loopy.data.store.shot_file import TensorPlace, row_checksums
from loopy.errors import StoreError

ROWS = 12
PLACE = TensorPlace(torch.float16, (ROWS, 5), 1000)
SUMS = TensorPlace(torch.uint32, (ROWS,), 200)


def spans(groups):
    return [(group[0].start, group[-1].stop) for group in groups]


@given(st.sets(st.integers(0, 80)), st.integers(0, 12))
def test_merged_ranges_hold_what_is_asked_and_no_wider_gap(bytes_asked, gap):
    """Against a plain count of bytes: the fewest ranges, and nothing but gaps besides."""
    pieces = [ByteRange(start, memoryview(bytearray(1))) for start in bytes_asked]
    expected = []
    for byte in sorted(bytes_asked):
        if expected and byte - expected[-1][1] <= gap:
            expected[-1] = (expected[-1][0], byte + 1)
        else:
            expected.append((byte, byte + 1))
    assert spans(merge(pieces, gap)) == expected


def test_neighbouring_rows_are_one_range_and_repeats_are_read_once():
    read = RowRead("latents", PLACE, SUMS, [4, 3, 9, 4, 5])
    pieces = [(piece.start, piece.stop) for piece in read.ranges()]
    assert pieces == [(1030, 1060), (1090, 1100), (212, 224), (236, 240)]


@given(st.one_of(st.lists(st.integers(0, ROWS - 1)), st.slices(ROWS)))
def test_rows_come_back_in_the_order_asked_for(rows):
    whole = torch.arange(ROWS * 5).reshape(ROWS, 5).half()
    file = bytearray(PLACE.start) + whole.numpy().tobytes()
    file[SUMS.start : SUMS.start + 4 * ROWS] = row_checksums(whole).numpy().tobytes()
    read = RowRead("latents", PLACE, SUMS, rows)
    for piece in read.ranges():
        piece.memory[:] = file[piece.start : piece.stop]
    expected = whole[list(range(*rows.indices(ROWS))) if isinstance(rows, slice) else rows]
    assert torch.equal(read.finish(), expected)


@pytest.mark.parametrize("rows", [[0, ROWS], [-1], torch.tensor([ROWS])])
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(StoreError, match=r"latents.* rows 0 to 11"):
        RowRead("latents", PLACE, SUMS, rows)


def test_a_checksum_is_that_of_zlib_over_the_bytes_of_the_row():
    assert row_checksums(torch.tensor([[0x3231], [0]], dtype=torch.int16)).tolist() == [
        0x4F5344CD,  # crc32(b"12")
        0x41D912FF,  # crc32(b"\0\0")
    ]
