"""The notebooks run from top to bottom, as somebody would who just cloned the repository."""

import re
import shutil
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from PIL import Image

from loopy.evaluation.table import results
from loopy.training.loss_plot import read_rows

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def execute():
    """Run notebooks in one kernel, one after another: to import the libraries takes its time."""
    kernel = KernelManager()
    yield partial(run_notebook, kernel)
    if kernel.has_kernel:
        kernel.shutdown_kernel(now=True)


def run_notebook(kernel, name, folder, *, megabytes=1, **values):
    """Run a notebook on a copy of the examples; ``values`` replace those of its first cell."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    first = code_cells(notebook)[0]
    for value in values.items():
        pattern = rf"^{value[0]} = [\d.]+"
        first.source, found = re.subn(pattern, "{} = {}".format(*value), first.source, flags=re.M)
        assert found == 1
    fresh = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}\n%matplotlib inline")
    notebook.cells.insert(0, fresh)
    client = NotebookClient(notebook, km=kernel, timeout=1200, startup_timeout=300)
    client.execute()
    client.kc.stop_channels()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    texts = [output.get("text", "") for output in outputs]
    assert not [text for text in texts if "Warning" in text.replace("TqdmWarning", "")]
    assert len(nbformat.writes(notebook)) < megabytes * 1_000_000
    return outputs, "".join(texts)


def kinds(outputs):
    return [kind for output in outputs for kind in output.get("data", {})]


@pytest.mark.weights
def test_the_first_video_runs_on_a_second_of_sound(execute, tmp_path):
    outputs, _ = execute("01_first_video.ipynb", tmp_path, seconds=1.0)
    assert kinds(outputs).count("image/png") >= 4  # portrait, frames, curves, segments
    assert any("video/mp4;base64" in str(output) for output in outputs)


def held_out(text, what):
    """What the training notebook prints of before and after."""
    [(before, after)] = re.findall(rf"{what}.* ([\d.-]+)%? before, ([\d.-]+)%? after", text)
    return float(before), float(after)


def error(sheet):
    """Mean difference of the rows made to the true rows above them, of 255."""
    with Image.open(sheet) as picture:
        rows = np.asarray(picture.convert("RGB"), np.float32)
    truth, made, more_truth, more_made = np.split(rows, 4)
    return float(np.abs([truth - made, more_truth - more_made]).mean())


@pytest.mark.weights
def test_the_training_runs_for_some_seconds(execute, tmp_path):
    outputs, text = execute("02_train_toon.ipynb", tmp_path, megabytes=3, SECONDS=8, TALKS=16)
    assert kinds(outputs).count("image/png") == 4  # talkers, before, loss curve, after
    before, after = held_out(text, "held-out loss")
    assert after < before
    losses = [value for _, name, value in read_rows(tmp_path / "runs/notebook/losses.csv")]
    assert losses
    first, last = sorted((tmp_path / "runs/notebook/samples").glob("*.png"))
    assert error(last) < error(first)
    made = {path.name for path in tmp_path.iterdir()} - {path.name for path in EXAMPLES.iterdir()}
    assert made <= {"runs"}


@pytest.mark.weights
def test_own_data_become_a_store_and_a_training(execute, tmp_path):
    outputs, text = execute("03_your_own_data.ipynb", tmp_path, VIDEOS=2, SECONDS=3, STEPS=6)
    assert kinds(outputs).count("image/png") == 3  # histograms, frames, loss curve
    assert "3 videos, 2 shots" in text
    assert "notes.mp4" in text  # the one that is none, with its reason
    rows = read_rows(tmp_path / "runs/own_data/losses.csv")
    assert len([value for _, name, value in rows if name == "loss"]) == 6
    made = {path.name for path in tmp_path.iterdir()} - {path.name for path in EXAMPLES.iterdir()}
    assert made <= {"runs", "__pycache__"}


@pytest.mark.weights
def test_two_evaluations_are_compared(execute, tmp_path):
    outputs, text = execute("04_evaluate_and_compare.ipynb", tmp_path, VIDEOS=3, SECONDS=1, STEPS=2)
    assert kinds(outputs).count("image/jpeg") == 1  # frames of the worst video
    judged = tmp_path / "runs/judged"
    assert all((judged / name / "report.html").is_file() for name in ("more", "one"))
    first = results.Results.read(judged / "more")
    assert len([video for video in first.videos if not video.problem]) == 3
    assert "columns compared" in text
    made = {path.name for path in tmp_path.iterdir()} - {path.name for path in EXAMPLES.iterdir()}
    assert made <= {"runs", "__pycache__"}


@pytest.mark.slow
@pytest.mark.weights
def test_the_whole_training_learns_who_speaks(execute, tmp_path):
    _, text = execute("02_train_toon.ipynb", tmp_path, megabytes=3)
    before, after = held_out(text, "held-out loss")
    assert after < 0.6 * before
    assert held_out(text, "another's reference")[1] > 10
    first, last = sorted((tmp_path / "runs/notebook/samples").glob("*.png"))
    assert error(last) < 0.6 * error(first)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_clean(path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert not cell.outputs, "strip the outputs before a commit"
        assert cell.execution_count is None
    assert not re.search(r"(/home|/root|/tmp|/work|/Users|[A-Z]:\\\\)", text)
