"""Independent reference: torch-fidelity's own network, asked without torchmetrics."""

import pytest
import torch

from loopy.errors import DependencyError, ModelError
from loopy.metrics.inception import inception


def test_missing_weights_are_named_before_anything_else(tmp_path):
    with pytest.raises(ModelError, match=r"weights-inception.*torch-fidelity.*Apache-2.0"):
        inception(tmp_path / "none.pth")
    with pytest.raises(ModelError, match="nothing is downloaded"):
        inception(None)


def test_a_wrong_file_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"<html>")
    with pytest.raises(ModelError, match="no file of weights"):
        inception(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises((ModelError, DependencyError), match=r"does not fit|torch-fidelity"):
        inception(path)


@pytest.fixture
def random_weights(tmp_path, monkeypatch):
    """A file as torch-fidelity wants it, of fresh numbers: its network, built without loading."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path / "weights.pth"
    network = fidelity.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(network, "load_state_dict", lambda self, state: None)
        torch.save({}, path)
        fresh = network("fresh", ["2048"], feature_extractor_weights_path=path)
    torch.save(fresh.state_dict(), path)
    return path, fresh


def test_features_are_those_of_torch_fidelity(random_weights):
    """Reference: torch_fidelity's FeatureExtractorInceptionV3, channels first, one by one."""
    path, network = random_weights
    frames = torch.randint(0, 256, (3, 40, 30, 3), dtype=torch.uint8)
    ours = inception(path)(frames)
    theirs = torch.cat([network(one[None].permute(0, 3, 1, 2))[0] for one in frames])
    assert ours.shape == (3, 2048)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert theirs.std(0).max() > 0
