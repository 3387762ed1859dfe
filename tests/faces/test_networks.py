"""The files of the networks: taken out of a wheel, checked, and missed."""

import zipfile

import pytest

from loopy.commands.faces import install
from loopy.errors import DependencyError, ModelError
from loopy.faces import networks
from loopy.faces.networks import FILES, Network


def wheel_of(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def test_a_wheel_with_other_files_puts_nothing_in_place(tmp_path):
    contents = {path: b"something else" for path, _ in FILES.values()}
    wheel = wheel_of(tmp_path / "mediapipe.whl", contents | {"mediapipe.dist-info/LICENSE": b"-"})
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
    assert not networks.installed()
    with pytest.raises(DependencyError, match=r"pip install loopy-portrait\[faces\]"):
        Network(tmp_path, "face_landmark")


def test_the_files_carry_their_licence(face_networks):
    assert "Apache License" in (face_networks / networks.LICENSE).read_text()
