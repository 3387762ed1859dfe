"""From a place to the header of a clip file."""

from pathlib import PurePath

from loopy.data.clip_file import Header, header_length, parse_header
from loopy.data.places import Place
from loopy.errors import DamageError

FIRST_BYTES = 4096  # one page; most headers fit


def read_header(place: Place, path: str) -> Header:
    """The header of a clip, checked.

    Args:
        place: Where the store is.
        path: Of the clip within the store.

    Raises:
        DamageError: Missing, damaged, cut off, or renamed.
        StoreError: Of another schema, or out of reach.
    """
    start, size = place.start(path, FIRST_BYTES)
    end = 8 + header_length(start, size)
    if end > len(start):
        start, size = place.start(path, end)
    header = parse_header(start[8:end], size)
    if header.about["id"] != PurePath(path).stem:
        raise DamageError(f"it holds clip {header.about['id']}; give it that name again")
    return header
