"""Model folders of strangers: one line of what is wrong, no network, and no memory first."""

import json
import shutil
import time

import pytest
import transformers.integrations.hub_kernels as hub
import transformers.modeling_flash_attention_utils as flash
import transformers.modeling_utils as modeling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from loopy.diffusion.settings import Settings
from loopy.errors import LoopyError, ModelError
from loopy.models.folder import INDEX, PARTS, load_part, save_part
from loopy.models.speech_files import read_audio_encoder
from loopy.pipeline import LoopyPipeline
from tests.memory import forget_peak, peak_kib

NETWORKS = [part for part in PARTS if part != "scheduler"]
WRONG = [None, True, "128", "", -1, 0, 1.5, 1e400, 10**9, 10**30, [], {}, [[1]], {"a": 1}]
MOST_S = 20


@pytest.fixture
def folder(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    index = json.loads((tmp_path / "model" / INDEX).read_text())
    del index["sha256"]  # weights are changed below
    (tmp_path / "model" / INDEX).write_text(json.dumps(index))
    return tmp_path / "model"


def config_of(folder, part):
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return folder / part / name


def refused(folder, part, content):
    """Loads a part with another configuration: what was said, if it was refused."""
    config_of(folder, part).write_text(content if isinstance(content, str) else json.dumps(content))
    begun = time.monotonic()
    try:
        load_part(folder, part)
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 (some values make no difference)
        return str(error)
    finally:
        assert time.monotonic() - begun < MOST_S
    return None


@pytest.mark.parametrize("part", PARTS)
def test_any_value_of_a_configuration_is_one_line_or_harmless(folder, part):
    honest = json.loads(config_of(folder, part).read_text())
    for place, name in enumerate(honest):
        for turn in range(3):  # not each value with each name: that takes minutes
            refused(folder, part, honest | {name: WRONG[(3 * place + turn) % len(WRONG)]})


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
                    max_leaves=10))  # fmt: skip
@pytest.mark.parametrize("name", ["settings", "sha256", "vae", "scheduler"])
def test_any_index_is_one_line_or_harmless(folder, name, value):
    honest = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(honest | {name: value}))
    try:
        LoopyPipeline.from_pretrained(folder)
    except LoopyError as error:
        assert "\n" not in str(error)  # noqa: PT017
    (folder / INDEX).write_text(json.dumps(honest))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "NaN"])
@pytest.mark.parametrize("part", ["denoiser", "index"])
def test_json_that_is_too_deep(folder, part, content):
    if part == "denoiser":
        assert "JSON" in refused(folder, part, content)
        return
    (folder / INDEX).write_text(content)
    with pytest.raises(ModelError, match="JSON"):
        LoopyPipeline.from_pretrained(folder)


@pytest.mark.parametrize("part", NETWORKS)
def test_nothing_is_built_that_the_file_does_not_hold(folder, part):
    """An empty configuration describes networks of real size: gigabytes."""
    forget_peak()
    before = peak_kib()
    assert refused(folder, part, {})
    assert peak_kib() - before < 50_000
    for name in ("layers_per_block", "num_hidden_layers"):
        config = {name: 10**9}
        assert refused(folder, part, config)


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, part, value):
    """They made a black video."""
    (path,) = (folder / part).glob("*.safetensors")
    state = load_file(path)
    name = sorted(name for name, tensor in state.items() if tensor.is_floating_point())[-1]
    state[name].view(-1)[-1] = value
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match=f"{path}: {name} is not finite"):
        LoopyPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": "16"},
        {"size_px": 7},
        {"size_px": 18},
        {"size_px": 16.5},
        {"size_px": 100_000},
        {"size_px": True},
        {"clip_frames": 3.0},
        {"clip_frames": 0},
        {"toons": None},
        {"toons": "yes"},
        {"toons": 1},
        {"domain": 3},
        {"reference_projection": "nobody"},
        {"rollout": None},
        {"rollout": {"guidance": None}},
        {"sampling": None},
        {"sampling": {"steps": 2, "nobody": 1}},
        {"contract": {"layout": {"stride": 2.0}}},
        {"sampling": {"audio_ratio": "much"}},
    ],
)
def test_settings_that_make_no_sense(folder, change):
    index = json.loads((folder / INDEX).read_text())
    index["settings"] |= change
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(LoopyError, match=next(iter(change))):
        LoopyPipeline.from_pretrained(folder)


def test_settings_come_back(make_pipeline, folder):
    assert LoopyPipeline.from_pretrained(folder).settings == make_pipeline().settings
    assert Settings.from_json({}) == Settings()


def test_a_model_that_hears_has_what_it_hears_with(folder):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | {"audio_projection": [None, None]}))
    with pytest.raises(LoopyError, match="no audio_projection"):
        LoopyPipeline.from_pretrained(folder)


@pytest.fixture
def asked(monkeypatch):
    """What the hub is asked for, by a stand-in for the package that asks."""
    names = []

    def ask(name, *args, **options):
        names.append(name)
        raise RuntimeError("no network in tests")

    for module in (hub, modeling, flash):
        if hasattr(module, "is_kernels_available"):
            monkeypatch.setattr(module, "is_kernels_available", lambda *_, **__: True)
    monkeypatch.setattr(hub, "get_kernel", ask)
    return names


FOREIGN = [
    {"_attn_implementation": "kernels-community/flash-attn2"},
    {"_attn_implementation": "evil/kernel@main:attention"},
    {"attn_implementation": "evil/kernel"},
    {"auto_map": {"AutoModel": "evil/code--model.Evil"}, "trust_remote_code": True},
    {"_name_or_path": "evil/model", "_commit_hash": "main"},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
]


@pytest.mark.parametrize("extra", FOREIGN)
@pytest.mark.parametrize("door", ["folder", "init"])
def test_a_folder_on_this_disk_asks_no_hub(folder, make_pipeline, asked, extra, door):
    path = config_of(folder, "audio_encoder")
    path.write_text(json.dumps(json.loads(path.read_text()) | extra))
    if door == "folder":
        LoopyPipeline.from_pretrained(folder)
    else:
        config = make_pipeline().network.audio_projection.config
        encoder, _, _ = read_audio_encoder(str(folder / "audio_encoder"), config=config)
        assert encoder.network.config._attn_implementation == "sdpa"
    assert not asked


def test_a_saved_part_names_no_place_of_this_machine(folder, make_pipeline, tmp_path):
    encoder = load_part(folder, "audio_encoder")
    save_part(encoder, tmp_path / "again", "audio_encoder")
    assert str(folder) not in config_of(tmp_path / "again", "audio_encoder").read_text()
