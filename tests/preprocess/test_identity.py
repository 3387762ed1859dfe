from pathlib import Path

import pytest

from loopy.errors import ConfigurationError, MediaError
from loopy.preprocess.identity import identity_rule

VOX = Path("/data/vox/id10270/5r0dWxy17C8/00001.mp4")


def test_by_video_and_by_folder():
    assert identity_rule("video")(VOX) is None
    folder = identity_rule("folder")
    assert folder(VOX) == folder("s3://talks/5r0dWxy17C8/x.mp4") == "5r0dWxy17C8"
    assert folder("s3://talks/Ada%20L/x.mp4") == folder(Path("/talks/Ada L/x.mp4")) == "Ada L"


def test_by_expression():
    assert identity_rule(r"/id(\d+)/")(VOX) == "10270"
    assert identity_rule(r"/(id\d+)/")("gs://vox/id10270/a.mp4") == "id10270"
    two = identity_rule(r"/(id\d+)/[^/]+/(\d)")
    assert two(VOX) == two(VOX.with_name("00002.mp4")) == "id10270/0"
    with pytest.raises(MediaError, match=r"'id\(.*finds no one in /data/talk.mp4"):
        identity_rule(r"id(\d+)")(Path("/data/talk.mp4"))
    with pytest.raises(MediaError, match="finds no one"):  # else all of them were one person
        identity_rule(r"(x*)")(VOX)


@pytest.mark.parametrize(
    ("words", "fault"),
    [(r"id(\d+", "no regular expression"), (r"id\d+", "with a group"), ("folders", "with a group")],
)
def test_words_that_are_no_rule_are_refused_at_once(words, fault):
    with pytest.raises(ConfigurationError, match=fault):
        identity_rule(words)


def test_by_table(tmp_path, monkeypatch):
    lines = (
        "\ufeffidentity,video,notes\nAda,talks/a.mp4,\nAda,./talks/../talks/b, c.mp4,\n"
        f"Bo,{tmp_path}/talks/d.mp4,x\nBo,s3://talks/e%20f.mp4,\n"
    ).replace("./talks/../talks/b, c.mp4", '"./talks/../talks/b, c.mp4"')
    (tmp_path / "who.csv").write_text(lines)
    monkeypatch.chdir(tmp_path)
    for rule in (identity_rule(f"{tmp_path}/who.csv"), identity_rule("who.csv")):
        assert rule(tmp_path / "talks/a.mp4") == rule(tmp_path / "talks/b, c.mp4") == "Ada"
        assert rule(Path("talks/d.mp4")) == rule("s3://talks/e f.mp4") == "Bo"
        with pytest.raises(MediaError, match=r"who\.csv does not say who is seen in .*g\.mp4"):
            rule(tmp_path / "talks/g.mp4")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"video,who\na.mp4,Ada\n", "has no column identity"),
        (b"", "has no column video"),
        (b"video,identity\na.mp4,Ada\n./a.mp4,Bo\n", "line 3: ./a.mp4 is 'Ada' above"),
        (b"video,identity\na.mp4\n", "line 2: video and identity are both needed"),
        (b"video,identity\na.mp4, \n", "line 2: video and identity are both needed"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_at_once(tmp_path, content, fault):
    (tmp_path / "who.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=fault):
        identity_rule(f"{tmp_path}/who.csv")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        identity_rule(f"{tmp_path}/nowhere.csv")
