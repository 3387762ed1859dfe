"""What a killed process leaves half written is deleted; what a living one writes, never."""

import os
import signal
import subprocess
import sys
import time
from threading import Thread

import pytest
import torch

from loopy import drafts
from loopy.drafts import check_place, draft, hidden_beside, remove_dead_drafts, writing
from loopy.errors import OutputError
from loopy.tensor_file import save_tensors

CHILD = """
import sys, time
from contextlib import ExitStack
from loopy.drafts import draft
with ExitStack() as stack:
    for name in ("a.mp4", "frames"):
        hidden = stack.enter_context(draft(sys.argv[1] + "/" + name, folder=name == "frames"))
        (hidden / "0.png" if name == "frames" else hidden).write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def child(tmp_path):
    """A process in the middle of a file and a folder."""
    words = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout.readline() == b"begun\n"
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(drafts.fcntl is None, reason="no locks there")
def test_drafts_live_as_long_as_their_process(child, tmp_path):
    (tmp_path / ".loopyrc").write_text("of the user")
    assert len(names(tmp_path)) == 3
    for path in tmp_path.glob(".loopy-*"):
        os.utime(path, (0, 0))  # however long ago it was written
    assert remove_dead_drafts(tmp_path) == 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert remove_dead_drafts(tmp_path, tmp_path / "lost") == 2
    assert names(tmp_path) == [".loopyrc"]


def test_drafts_of_another_machine_are_spared_for_an_hour(tmp_path):
    """It may share the folder over a network, and its locks may not be seen here."""
    file, folder = (tmp_path / f".loopy-{'0' * 8}-{'a' * 32}{end}" for end in (".mp4", ""))
    file.write_text("half")
    folder.mkdir()
    (folder / "0.png").write_text("half")
    assert remove_dead_drafts(tmp_path) == 0
    for path in (file, folder):
        os.utime(path, (0, 0))
    assert remove_dead_drafts(tmp_path) == 1
    assert folder.exists()  # what is in it is young
    os.utime(folder / "0.png", (0, 0))
    assert remove_dead_drafts(tmp_path) == 1
    assert names(tmp_path) == []


def test_without_locks_age_alone_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "fcntl", None)
    with hidden_beside(tmp_path / "a.mp4") as hidden:
        assert remove_dead_drafts(tmp_path) == 0
        os.utime(hidden, (0, 0))
        assert remove_dead_drafts(tmp_path) == 1


def test_many_that_write_and_sweep_do_not_disturb_each_other(tmp_path):
    """A draft is not dead between its birth and its lock."""
    failed, end = [], time.monotonic() + 2

    def write(number):
        try:
            while time.monotonic() < end:
                with draft(tmp_path / f"{number}.txt") as hidden:
                    hidden.write_text("whole")
                save_tensors(tmp_path / f"{number}.safetensors", {"a": torch.zeros(3)})
        except OutputError as error:
            failed.append(error)

    def sweep():
        while time.monotonic() < end:
            remove_dead_drafts(tmp_path)

    threads = [Thread(target=write, args=(number,)) for number in range(3)]
    threads += [Thread(target=sweep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(tmp_path) == sorted(
        f"{n}.{end}" for n in range(3) for end in ("safetensors", "txt")
    )


def test_safetensors_leaves_nothing_outside_of_our_draft(tmp_path, monkeypatch):
    """It writes to a file of its own, beside the one that it is given."""
    seen = []

    def cut_off(tensors, path, about):
        (path.parent / ".tmpAb12Cd").write_text("half")
        seen.extend(names(tmp_path))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loopy.tensor_file.save_file", cut_off)
    with pytest.raises(OutputError, match="No space left"):
        save_tensors(tmp_path / "a.safetensors", {})
    assert len(seen) == 1
    assert names(tmp_path) == []


def test_what_the_disk_refuses_in_the_block_is_said(tmp_path):
    with (
        pytest.raises(OutputError, match=r"a\.txt cannot be written \(No space left on device\)"),
        writing(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_a_place_is_checked_before(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    check_place(tmp_path / "a.png")
    check_place(tmp_path / "full", folder=True, replace=True)
    for name, folder in (("full", False), ("full", True), ("full/a", True), ("no/a", False)):
        with pytest.raises(OutputError, match=r"give another name|make it first"):
            check_place(tmp_path / name, folder=folder)
    assert names(tmp_path) == ["full"]


def test_a_folder_behind_a_link_is_filled_and_the_link_stays(tmp_path):
    """Before, it ended with "Not a directory" when all the work was done."""
    (tmp_path / "disk").mkdir()
    for target in ("disk", "disk", "new"):
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with draft(link, folder=True, replace=True) as hidden:
            (hidden / "0.png").write_text("whole")
        assert names(tmp_path / target) == ["0.png"]
        assert link.is_symlink()
    assert names(tmp_path) == ["disk", "link", "new"]


def test_what_cannot_be_replaced_is_said_before(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(OutputError, match="neither a file nor a folder"):
        check_place(tmp_path / "a.mp4")
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "disk")
    with pytest.raises(OutputError, match="is where a disk is mounted"):
        check_place(tmp_path / "disk", folder=True)
