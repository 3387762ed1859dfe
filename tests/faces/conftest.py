"""The mesh on real networks, real pictures and real clips; what is missing is skipped."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from loopy.faces.mesh import FaceMesh

REAL = Path(os.environ.get("LOOPY_REAL", Path(__file__).parents[3] / "shared/real"))


@pytest.fixture(scope="session")
def mesh(face_networks):
    return FaceMesh(face_networks)


@pytest.fixture(scope="session")
def astronaut():
    """Eileen Collins by NASA, 512 x 512, a picture in the public domain."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(np.array(data.astronaut()))


@pytest.fixture(scope="session")
def clips():
    """Eleven clips of ten people in the GRID corpus."""
    found = [*sorted((REAL / "grid/others").glob("*.mpg")), REAL / "grid/s1/bbaf2n.mpg"]
    if len(found) < 11 or not found[-1].exists():
        pytest.skip(f"no clips of real people in {REAL}; LOOPY_REAL names their folder")
    return found
