"""Independent references: Pillow's resizing, numpy's padding, a forward out of raw tensors."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from loopy.errors import MetricError, ModelError
from loopy.metrics.video_features import ResNet3D, i3d, resnet_3d, segments

SHAPES = {  # of resnet-50-kinetics.pth
    "conv1.weight": (64, 3, 7, 7, 7),
    "layer1.0.conv1.weight": (64, 64, 1, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1, 1),
    "layer1.2.conv3.weight": (256, 64, 1, 1, 1),
    "layer2.3.conv2.weight": (128, 128, 3, 3, 3),
    "layer3.5.conv1.weight": (256, 1024, 1, 1, 1),
    "layer4.0.downsample.1.running_var": (2048,),
    "layer4.2.bn3.weight": (2048,),
    "fc.weight": (400, 2048),
}


def film(frames, *, height=20, width=30):
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8)


@pytest.mark.parametrize(("frames", "stretches"), [(16, 1), (17, 2), (40, 3), (48, 3)])
def test_the_last_stretch_is_filled_with_the_last_frame(frames, stretches):
    """Reference: numpy.pad with the edge."""
    video = film(frames)
    missing = stretches * 16 - frames
    padded = np.pad(video.numpy(), ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge")
    ours = segments(video).numpy()
    assert np.array_equal(ours, padded.reshape(stretches, 16, 20, 30, 3))


def test_a_video_shorter_than_a_stretch_has_no_features():
    with pytest.raises(MetricError, match="15 frames is shorter than a stretch of 16"):
        segments(film(15))


def by_hand(state, x):
    """3D ResNet-50 out of nothing but the file's tensors, as its paper's table 1 has it."""

    def layer(x, convolution, norm, **options):
        x = functional.conv3d(x, state[f"{convolution}.weight"], **options)
        statistics = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var")]
        return functional.batch_norm(x, *statistics, state[f"{norm}.weight"], state[f"{norm}.bias"])

    x = layer(x, "conv1", "bn1", stride=(1, 2, 2), padding=3).relu()
    x = functional.max_pool3d(x, 3, 2, 1)
    for stage, (blocks, stride) in enumerate(((3, 1), (4, 2), (6, 2), (3, 2)), 1):
        for block in range(blocks):
            name, step = f"layer{stage}.{block}", stride if block == 0 else 1
            short = x
            if f"{name}.downsample.0.weight" in state:
                short = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride=step)
            y = layer(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = layer(y, f"{name}.conv2", f"{name}.bn2", stride=step, padding=1).relu()
            x = (layer(y, f"{name}.conv3", f"{name}.bn3") + short).relu()
    return functional.avg_pool3d(x, (1, 4, 4)).flatten(1)


@torch.no_grad()
def test_fvd_r_sees_the_pictures_as_its_network_was_trained(tmp_path):
    """References: Pillow's float bicubic (as clean-fid and DisCo resize), and `by_hand`."""
    network = ResNet3D()
    state = network.state_dict()
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    path = tmp_path / "resnet-50-kinetics.pth"
    prefixed = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 1, "arch": "resnet-50", "state_dict": prefixed}, path)
    video = film(16, height=130, width=140)
    ours = resnet_3d(path)(video[None])
    seen = [
        [
            np.asarray(Image.fromarray(channel, "F").resize((112, 112), Image.Resampling.BICUBIC))
            for channel in frame.numpy().astype(np.float32).transpose(2, 0, 1)
        ]
        for frame in video
    ]
    mean = np.array([114.7748, 107.7354, 99.4750], np.float32)[:, None, None]
    pictures = torch.from_numpy(np.stack(seen) - mean).transpose(0, 1)[None]
    theirs = by_hand(state, pictures)
    assert ours.shape == (1, 2048)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_weights_that_are_missing_or_wrong_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(ModelError, match=r"resnet-50-kinetics.pth.*licence: MIT"):
        resnet_3d(path)
    with pytest.raises(ModelError, match=r"i3d_torchscript.pt.*licence: Apache-2.0"):
        i3d(path)
    torch.save({"state_dict": {"conv1.weight": torch.ones(1)}}, path)
    with pytest.raises(ModelError, match="the file lacks bn1"):
        resnet_3d(path)
    with pytest.raises(ModelError, match="is no TorchScript"):
        i3d(path)


class Script(torch.nn.Module):
    """Asked as StyleGAN-V asks its file; tells what it saw."""

    def forward(
        self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool
    ) -> torch.Tensor:
        if rescale or resize or not return_features:
            return x * 0
        side = torch.ones(len(x), 1) * x.shape[-1]
        return torch.cat([x.amin((2, 3, 4)), x.amax((2, 3, 4)), side], 1)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_fvd_i_asks_the_script_for_features_of_pictures_in_range(tmp_path):
    torch.jit.script(Script()).save(tmp_path / "i3d.pt")
    video = torch.zeros(2, 16, 10, 10, 3, dtype=torch.uint8)
    video[:, 8:] = 255
    features = i3d(tmp_path / "i3d.pt")(video)
    assert features[0].tolist() == pytest.approx([-1, -1, -1, 1, 1, 1, 224], abs=1e-5)
