"""A file of tensors is whole or not there, and its permissions are any new file's."""

import os

import pytest
import torch
from safetensors.torch import load_file

from loopy.errors import OutputError
from loopy.subject import Subject
from loopy.tensor_file import save_tensors

OLD, NEW = {"a": torch.zeros(3)}, {"a": torch.ones(5, 4).T}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "a.safetensors", NEW)
        Subject(torch.zeros(1, 4, 2, 2), "").save(tmp_path / "b.safetensors")
        (tmp_path / "c.txt").write_text("")
    finally:
        os.umask(before)
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {0o100666 & ~umask}


def test_it_takes_the_place_of_the_old_file_or_leaves_it(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, OLD)
    save_tensors(path, NEW, {"who": "me"})
    assert torch.equal(load_file(path)["a"], NEW["a"])
    with pytest.raises(OutputError, match=r"folder .*/no does not exist; make it"):
        save_tensors(tmp_path / "no" / path.name, OLD)
    path.chmod(0o444)
    with pytest.raises(TypeError):
        save_tensors(path, OLD, {"who": 1})
    assert torch.equal(load_file(path)["a"], NEW["a"])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
