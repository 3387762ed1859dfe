"""What a stage takes from model folders, what it leaves there, and what it refuses."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from loopy.errors import ModelError
from loopy.training.start import TRAINED, start_from, start_table

SILENT = {"clip_frames": None, "audio_dim": None}


@pytest.fixture
def make_network(make_dual, awaken):
    """All networks with nothing silent; ``sound`` False leaves the audio parts out."""

    def make(seed, *, sound=True, **shape):
        torch.manual_seed(seed)
        network = awaken(make_dual(shape=shape), seed)
        if not sound:
            network.audio_projection, network.audio_to_latents = None, None
        return network

    return make


@pytest.fixture
def save(tmp_path):
    """Writes the parts of a network as a model folder."""

    def write(network, name):
        for part in TRAINED:
            if getattr(network, part) is not None:
                getattr(network, part).save_pretrained(tmp_path / name / part)
        return tmp_path / name

    return write


def weights(folder, part):
    return load_file(folder / part / "diffusion_pytorch_model.safetensors")


def same(module, state, names):
    own = module.state_dict()
    return all(torch.equal(own[name], state[name].float()) for name in names)


def test_the_clip_stage_takes_both_folders_the_later_one_first(make_network, save):
    begun = save(make_network(1), "init")
    image = save(make_network(2, sound=False, **SILENT), "image")
    network = make_network(3)
    reports = start_from(network, [begun, image])
    assert not any(report.new or report.skipped for report in reports.values())
    of_image, of_begun = weights(image, "denoiser"), weights(begun, "denoiser")
    rest = of_begun.keys() - of_image.keys()
    assert same(network.denoiser, of_image, of_image)
    assert same(network.denoiser, of_begun, rest)
    assert {"audio_attn", "inter_clip", "intra_clip"} <= {
        p for name in rest for p in name.split(".")
    }
    assert same(network.audio_projection, *[weights(begun, "audio_projection")] * 2)
    assert same(network.reference_net, *[weights(image, "reference_net")] * 2)


def test_the_silent_image_stage_leaves_sound_and_time_in_the_folder(make_network, save):
    begun = save(make_network(1), "init")
    network = make_network(2, sound=False, **SILENT)
    reports = start_from(network, [begun])
    stored = weights(begun, "denoiser")
    assert set(reports["denoiser"].loaded) == set(network.denoiser.state_dict())
    assert same(network.denoiser, stored, network.denoiser.state_dict())
    left = ("audio_attn", "inter_clip", "intra_clip", "norm2")
    assert all(any(kind in name for kind in left) for name in reports["denoiser"].skipped)
    assert set(reports["audio_projection"].skipped) == set(weights(begun, "audio_projection"))


def test_an_image_stage_that_hears_takes_the_sound(make_network, save):
    begun = save(make_network(1), "init")
    network = make_network(2, clip_frames=None)
    reports = start_from(network, [begun])
    assert all("_clip." in name for name in reports["denoiser"].skipped)
    assert any("audio_attn" in name for name in reports["denoiser"].loaded)
    assert same(network.audio_to_latents, *[weights(begun, "audio_to_latents")] * 2)


def test_what_the_folders_have_none_of_is_new(make_network, save):
    image = save(make_network(1, sound=False, **SILENT), "image")
    network = make_network(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reports = start_from(network, [image])
    new = {f"{part}.{name}" for part in TRAINED for name in reports[part].new}
    stored = {f"{part}.{name}" for part in TRAINED[:2] for name in weights(image, part)}
    assert new == before.keys() - stored
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in new)


def test_one_temporal_layer_of_two(make_network, save):
    begun = save(make_network(1), "init")
    reports = start_from(make_network(2, inter_clip=False), [begun])
    assert all(".inter_clip." in name for name in reports["denoiser"].skipped)
    assert reports["denoiser"].skipped
    assert any(".intra_clip." in name for name in reports["denoiser"].loaded)


def test_a_folder_in_half_precision_fills_float32_networks(make_network, save):
    begun = save(make_network(1).half(), "init")
    network = make_network(2)
    start_from(network, [begun])
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert same(network.denoiser, *[weights(begun, "denoiser")] * 2)


def test_a_layer_that_is_missing_among_its_kind_is_an_error(make_network, save):
    begun = save(make_network(1), "init")
    file = begun / "denoiser" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["mid_block.inter_clip.0.proj_out.weight"]
    save_file(state, file)
    with pytest.raises(ModelError, match=r"denoiser: .*lacks mid_block.inter_clip.0.proj_out"):
        start_from(make_network(2), [begun])


def test_other_networks_are_refused(make_network, save, tmp_path):
    with pytest.raises(ModelError, match=r"nowhere has no part .*export the image stage first"):
        start_from(make_network(1), [tmp_path / "nowhere"])
    narrow = save(make_network(1, block_out_channels=(8, 16)), "narrow")
    with pytest.raises(ModelError, match=r"reference_net: .*shape"):
        start_from(make_network(2), [narrow])
    for part in ("reference_net", "denoiser"):
        (narrow / part).rename(tmp_path / part)
    with pytest.raises(ModelError, match="no folder has a reference_net"):
        start_from(make_network(2), [narrow])
    (tmp_path / "torn" / "denoiser").mkdir(parents=True)
    (tmp_path / "torn" / "denoiser" / "diffusion_pytorch_model.safetensors").write_bytes(b"12345")
    with pytest.raises(ModelError, match="cannot be read"):
        start_from(make_network(2), [tmp_path / "torn"])


def test_the_table_names_what_is_new_and_skipped(make_network, save):
    begun = save(make_network(1), "init")
    network = make_network(2, audio_dim=None, inter_clip=False)
    network.audio_to_latents = None
    table = start_table(start_from(network, [begun])).splitlines()
    assert [line.split()[0] for line in table] == ["part", *TRAINED]
    assert table[1].split()[1:] == [str(len(network.reference_net.state_dict())), "0", "0"]
    assert "inter_clip" in table[2].partition("skipped:")[2]
    assert "audio_attn" in table[2].partition("skipped:")[2]
    assert "intra_clip" not in table[2]
    assert table[4].split()[1:4] == ["0", "0", str(len(weights(begun, "audio_to_latents")))]
