"""Videos in a bucket, and people who are known by name, through the whole of `loopy preprocess`."""

from dataclasses import replace

import pytest
import torch

from loopy.commands.preprocess import preprocess
from loopy.data.store.index_build import identity_hash
from loopy.data.store.shot_store import ShotStore
from loopy.errors import ConfigurationError
from loopy.preprocess.report import store_report

ALL = dict.fromkeys(("latents", "audio", "points", "valid", "pose"), slice(None))


@pytest.fixture(scope="module")
def talks(write_talk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    for name in ("id1_a.mkv", "id1_b.mkv", "id2_a.mkv"):
        write_talk(folder / name)
    return folder


@pytest.fixture
def prepare(talks, talk_parts, talk_options, tmp_path):
    def run(videos=talks, name="store", **changes):
        options = replace(talk_options, **changes)
        preprocess(str(videos), tmp_path / name, parts=talk_parts, options=options)
        return ShotStore.open(tmp_path / name)

    return run


def identities(store):
    """Name of the video -> hash of who is seen in it."""
    return {
        store.about(row)["provenance"]["source"].rsplit("/", 1)[1]: int(
            store.index["identity"][row]
        )
        for row in range(len(store))
    }


def test_a_bucket_gives_what_the_folder_gives(prepare, talks, tmp_path):
    near, far = prepare(), prepare(f"file://{talks}", "far")
    assert len(near) == len(far) == 3
    for row in range(3):
        assert near.index.id(row) == far.index.id(row)
        assert far.about(row)["provenance"]["source"].startswith("file://")
        for name, tensor in near.read(row, ALL).items():
            assert torch.equal(tensor, far.read(row, ALL)[name])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "far").rglob("*.safetensors")}
    prepare(f"file://{talks}", "far")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "far").rglob("*.safetensors")}
    assert after == before


def test_an_address_that_holds_nothing_spoils_no_other(prepare, talks, tmp_path):
    videos = tmp_path / "videos.txt"
    videos.write_text(f"file://{talks}/id1_a.mkv\nfile://{talks}/gone.mkv\n")
    assert len(prepare(videos)) == 1
    (error,) = store_report(tmp_path / "store").errors.values()
    assert "nothing at file://" in error


def test_people_are_known_by_a_pattern(prepare):
    assert identities(prepare(identity=r"id(\d)_")) == {
        "id1_a.mkv": identity_hash("1"),
        "id1_b.mkv": identity_hash("1"),
        "id2_a.mkv": identity_hash("2"),
    }


def test_a_table_of_people_may_be_corrected(prepare, talks, tmp_path):
    """No clip of the person it named before stays in the index."""
    table = tmp_path / "people.csv"
    lines = [f"{talks}/id1_a.mkv,Ada", f"{talks}/id1_b.mkv,Ada", f"{talks}/id2_a.mkv,Bo"]
    table.write_text("\n".join(["video,identity", *lines]))
    found = identities(prepare(identity=str(table)))
    assert found["id1_b.mkv"] == identity_hash("Ada")
    table.write_text(
        "\n".join(["video,identity", lines[0], lines[1].replace("Ada", "Cy"), lines[2]])
    )
    store = prepare(identity=str(table))
    assert len(store) == 3
    assert identities(store) == found | {"id1_b.mkv": identity_hash("Cy")}


def test_a_table_that_is_not_there_is_said_before_a_store_is_made(prepare, tmp_path):
    with pytest.raises(ConfigurationError, match=r"people\.csv"):
        prepare(identity=str(tmp_path / "people.csv"))
    assert not (tmp_path / "store").exists()
