import os
import subprocess
import sys

import pytest

import loopy
from loopy.errors import DependencyError
from loopy.installation import check_torchaudio

HEAVY = {"torch", "numpy", "diffusers", "transformers", "lightning", "av", "PIL"}


def run_python(code, *, path):
    """Runs code in a new interpreter that looks into `path` first."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def install(path, name, version):
    """Leaves the trace that pip leaves of an installed distribution."""
    folder = path / f"{name.replace('.', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_importing_loopy_loads_nothing_heavy(tmp_path):
    done = run_python("import loopy, sys; print(*sys.modules)", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("name", loopy.__all__)
def test_public_names_load_when_asked_for(name):
    assert getattr(loopy, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'loopy' has no attribute 'LoopyPipelin'"):
        loopy.LoopyPipelin  # noqa: B018


def test_dir_lists_names_before_they_are_loaded():
    assert set(loopy.__all__) <= set(dir(loopy))


@pytest.mark.parametrize("name", ["loo.py", "loopy"])
def test_other_project_called_loopy_is_named(tmp_path, name):
    install(tmp_path, name, "2025.2")
    done = run_python("import loopy", path=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"loopy.errors.DependencyError: the distribution '{name}' (2025.2)")
    assert f"pip uninstall {name} loopy-portrait" in last


@pytest.mark.parametrize(
    "code",
    [
        "import loopy.installation as i; i.check_torchaudio()",
        "import loopy; loopy.LoopyPipeline",
        "import loopy.models",
        "from loopy.cli import main; main(['animate', '--help'])",
    ],
)
def test_torchaudio_of_another_build_is_one_line_with_the_cure(tmp_path, code):
    (tmp_path / "torchaudio.py").write_text(
        "raise OSError('libc10_cuda.so: cannot open shared object file\\nsecond line')"
    )
    install(tmp_path, "torchaudio", "2.9.1")
    install(tmp_path, "torch", "2.12.0")
    last = run_python(code, path=tmp_path).stderr.splitlines()[-1]
    assert last.partition("rror: ")[2].startswith("torchaudio 2.9.1 was built for another")
    assert "2.12.0" in last
    assert "libc10_cuda.so" in last
    assert "pip install torch==2.11.0 torchaudio==2.11.0" in last


def test_torchaudio_that_fits_or_is_absent_is_no_fault(monkeypatch):
    check_torchaudio()
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    check_torchaudio()


def test_dependency_error_is_caught_as_import_error_and_as_ours():
    assert issubclass(DependencyError, ImportError)
    assert issubclass(DependencyError, loopy.LoopyError)
