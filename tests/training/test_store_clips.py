"""Batches out of a shot store: each clip once an epoch, shared out among ranks, resumable."""

import pickle
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index import TRAIN, VALIDATION
from loopy.data.store.index_build import build_index
from loopy.data.store.shot_store import ShotStore
from loopy.data.store.shots import shot_id, shot_path, write_shot
from loopy.diffusion.options import DiffusionContract
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError, CorruptFileError, StoreError
from loopy.models.weights import store_fingerprints
from loopy.segments import SegmentLayout
from loopy.training.datamodule import Stream
from loopy.training.dropout import ConditionDropout
from loopy.training.module import LoopyModule
from loopy.training.store_clips import ClipSampler, StoreClips, WindowOptions

FRAMES = 3
LAYOUT = SegmentLayout(stride=2, segments=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_store, make_record):
    """40 clips; every latent is the number of its clip."""
    names = [str(number) for number in range(1, 40)]
    root = make_store(tmp_path_factory.mktemp("store"), names)
    write_shot(root, make_record("0", frames=2))
    build_index(root, validation=0.3, test=0.1)
    return root


WINDOWS = WindowOptions(layout=LAYOUT, clip_frames=FRAMES)


@pytest.fixture
def sampler(folder):
    def make(**changes):
        of_sampler = ("batch_size", "skip_damaged", "seed")
        options = {name: changes.pop(name) for name in of_sampler if name in changes}
        options = {"batch_size": 2, "windows": replace(WINDOWS, **changes)} | options
        return ClipSampler(ShotStore.open(folder), **options)

    return make


def numbers(clip):
    return clip.latents[:, 0, 0, 0, 0].int().tolist()


def test_each_clip_once_an_epoch_in_another_order(sampler):
    source = sampler()
    clips = len(source.rows)
    assert 15 < clips < 32
    row = [n for i in range(clips) for n in numbers(source.batch("training", i, 0, 1))]
    first, second = row[:clips], row[clips : 2 * clips]
    assert sorted(first) == sorted(second)
    assert len(set(first)) == clips
    assert first != second
    assert 0 not in first  # two frames hold no window


def test_ranks_share_the_same_row(sampler):
    source = sampler()
    alone = [n for i in range(6) for n in numbers(source.batch("training", i, 0, 1))]
    shared = [
        n
        for i in range(2)
        for rank in range(3)
        for n in numbers(source.batch("training", i, rank, 3))
    ]
    assert alone == shared


def test_a_batch_is_a_function_of_its_number(sampler):
    one, other = sampler(), pickle.loads(pickle.dumps(sampler()))
    for number in (5, 0, 33):
        a, b = (source.batch("training", number, 0, 1) for source in (one, other))
        for name, value in vars(a).items():
            assert not torch.is_tensor(value) or torch.equal(value, getattr(b, name))
    assert numbers(one.batch("training", 0, 0, 1)) != numbers(
        sampler(seed=1).batch("training", 0, 0, 1)
    ) or numbers(one.batch("training", 1, 0, 1)) != numbers(
        sampler(seed=1).batch("training", 1, 0, 1)
    )


def test_epochs_look_at_other_windows(sampler):
    source = sampler(drops=ConditionDropout(full_history=0))
    audio = {}
    for number in range(3 * len(source.rows) // 2):
        clip = source.batch("training", number, 0, 1)
        for name, heard in zip(numbers(clip), clip.audio, strict=True):
            audio.setdefault(name, []).append(heard)
    different = [not torch.equal(heard[0], heard[1]) for heard in audio.values() if len(heard) > 1]
    assert sum(different) > 0.7 * len(different)


def test_splits_never_meet_and_validation_has_whole_histories(sampler):
    source = sampler()
    split = source.store.index["split"]
    assert set(split[source.rows]) == {TRAIN}
    assert set(split[source.held_out_rows]) == {VALIDATION}
    clip = source.batch("validation", 0, 0, 1)
    assert clip.past_present.all()
    assert torch.equal(clip.audio, source.batch("validation", 0, 0, 1).audio)


def test_one_clip_a_device_is_judged_beside_another(sampler):
    """Validation swaps sounds and pasts within a batch."""
    of_one = sampler(batch_size=1)
    assert len(of_one.batch("training", 0, 0, 1)) == 1
    judged = of_one.batch("validation", 0, 0, 1)
    assert torch.equal(judged.latents, sampler().batch("validation", 0, 0, 1).latents)
    first, second = judged.audio
    assert not torch.equal(first, second)


def test_equal_weights_are_none(sampler):
    assert sampler(mouth_weight=1.0).batch("training", 0, 0, 1).weight is None


def test_a_step_never_takes_more_clips_than_there_are(sampler):
    clips = len(sampler().rows)
    sampler(batch_size=clips).batch("training", 0, 0, 1)
    for batch_size, ranks in ((clips + 1, 1), (2, clips // 2 + 1), (1, 99)):
        with pytest.raises(ConfigurationError, match=f"{clips} clips.*ranks {ranks}.*fewer ranks"):
            sampler(batch_size=batch_size).batch("training", 0, 0, ranks)


def test_a_place_is_that_of_these_clips_and_windows(sampler, folder, make_record, tmp_path):
    """A store with as many clips, others among them, has other batches from the same place on."""
    told = sampler().data_signature()
    assert sampler(mouth_weight=3.0).data_signature() == told  # weights may change in mid-run
    shutil.copytree(folder, tmp_path / "copy")
    write_shot(tmp_path / "copy", make_record("40"))
    ids = [sampler().store.index.id(row) for row in sampler().rows]
    build_index(tmp_path / "copy", keep={*ids[1:], make_record("40").id}, validation=0, test=0)
    other = ClipSampler(ShotStore.open(tmp_path / "copy"), 2, WINDOWS)
    assert len(other.rows) == len(ids)
    assert other.data_signature() != told
    changes = {
        "clip_frames": 4,
        "layout": SegmentLayout(stride=2, segments=1),
        "reference": "within",
        "static_history": True,
        "mirror": 0.5,
        "drops": ConditionDropout(full_history=0.1),
    }
    for name, value in changes.items():
        assert sampler(**{name: value}).data_signature() != told, name


def spoil_rows(content):
    """A bit of every picture; the header stays whole."""
    header = int.from_bytes(content[:8], "little")
    for place in range(8 + header, len(content), 256):
        content[place] ^= 1


def spoil_header(content):
    content[40] ^= 1


def cut_off(content):
    del content[-1]


@pytest.mark.parametrize("spoil", [spoil_rows, spoil_header, cut_off])
def test_a_damaged_clip_is_never_trained_on(sampler, folder, tmp_path, spoil):
    """Every batch that has it is an error; the others are what they were."""
    whole = sampler()
    damaged = whole.store.index.id(int(whole.rows[3]))
    shutil.copytree(folder, tmp_path / "copy")
    [path] = (tmp_path / "copy").rglob(f"{damaged}.safetensors")
    content = bytearray(path.read_bytes())
    spoil(content)
    path.write_bytes(content)
    source = ClipSampler(ShotStore.open(tmp_path / "copy"), 2, WINDOWS)
    number = int(whole.store.read(damaged, {"latents": [0]})["latents"][0, 0, 0, 0])
    touched = 0
    for place in range(len(whole.rows)):  # two epochs
        clip = whole.batch("training", place, 0, 1)
        if number in numbers(clip):
            touched += 1
            with pytest.raises(StoreError, match=path.name):
                source.batch("training", place, 0, 1)
        else:
            assert torch.equal(source.batch("training", place, 0, 1).latents, clip.latents)
    assert touched == 2


def flip(path, place=40):
    """Flips a byte, in the header unless told otherwise: every window finds it."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def damaged(sampler, folder, tmp_path):
    """A copy in which the third and the fourth clip of the first epoch are damaged."""
    shutil.copytree(folder, tmp_path / "copy")
    whole = sampler(batch_size=1)
    order = [numbers(whole.batch("training", i, 0, 1))[0] for i in range(len(whole.rows))]

    def make(count, **changes):
        for clip in order[2 : 2 + count]:
            flip(tmp_path / "copy" / shot_path(shot_id(str(clip), 0, 1, {})))
        return ClipSampler(ShotStore.open(tmp_path / "copy"), 1, WINDOWS, **changes)

    return order, make


def test_the_next_clip_takes_the_place_of_a_damaged_one(damaged, sampler):
    order, make = damaged
    source, whole = make(2, skip_damaged=2), sampler(batch_size=1)
    with pytest.warns(UserWarning, match="left out") as told:
        clips = [source.batch("training", i, 0, 1) for i in range(2 * len(order))]
    assert len(told) == 2  # once a clip, also in the second epoch
    expected = order[:2] + [order[4]] * 2 + order[4:]
    assert [n for clip in clips[: len(order)] for n in numbers(clip)] == expected
    for place in (0, 5, len(order) - 1):
        intact = whole.batch("training", place, 0, 1)
        assert torch.equal(clips[place].audio, intact.audio)
    again = pickle.loads(pickle.dumps(make(0, skip_damaged=2)))  # resumed, in another process
    for place in (3, 2):
        with pytest.warns(UserWarning, match="left out"):
            clip = again.batch("training", place, 0, 1)
        assert torch.equal(clip.audio, clips[place].audio)
    assert source.data_signature() == whole.data_signature()


def test_workers_count_damaged_clips_together(damaged):
    """So that what is logged is the truth, and the bound is one of the rank."""
    order, make = damaged
    source = make(2, skip_damaged=2)
    batches = Stream(source.batch, "training", batches=len(order))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clips = list(DataLoader(batches, batch_size=None, num_workers=2))
    assert len(clips) == len(order)
    assert source.damaged == 2


def test_one_more_damaged_clip_ends_the_run_with_advice(damaged):
    _, make = damaged
    words = r"\.safetensors: .*; loopy data check .*skip_damaged \(now {}\)"
    source = make(1)
    with pytest.raises(CorruptFileError, match=words.format(0)):
        [source.batch("training", i, 0, 1) for i in range(4)]
    source = make(0, skip_damaged=1)
    with pytest.warns(UserWarning, match="left out"):
        [source.batch("training", i, 0, 1) for i in range(4)]


def test_what_is_only_out_of_reach_is_not_left_out(sampler, folder, tmp_path):
    """Else a disk that is away for a minute would change the batches."""
    shutil.copytree(folder, tmp_path / "copy")
    store = ShotStore.open(tmp_path / "copy")
    for path in list((tmp_path / "copy" / "clips").glob("*/*.safetensors")):
        path.unlink()
        path.mkdir()  # cannot be read, even by root
    source = ClipSampler(store, 2, WINDOWS, skip_damaged=99)
    with pytest.raises(StoreError, match="cannot be read"):
        source.batch("training", 0, 0, 1)


def test_where_nothing_is_whole_nothing_is_trained_on(sampler, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    store = ShotStore.open(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "clips")
    source = ClipSampler(store, 2, WINDOWS, skip_damaged=99)
    for purpose in ("training", "validation"):
        with (
            pytest.warns(UserWarning, match="left out"),
            pytest.raises(CorruptFileError, match="not one clip is whole"),
        ):
            source.batch(purpose, 0, 0, 1)


def test_latents_drawn_from_their_posteriors(make_record, sampler, tmp_path):
    kind = StoreDescription(16, (4, 8, 8), (3, 8), log_variance=True)
    create_store(tmp_path / "store", kind)
    spread = torch.linspace(-6, -2, 20)[:, None, None, None].expand(20, 4, 8, 8)
    for name in range(1, 9):
        write_shot(tmp_path / "store", replace(make_record(str(name)), log_variance=spread))
    build_index(tmp_path / "store", validation=0.3, test=0)
    store = ShotStore.open(tmp_path / "store")
    mean, drawn, again = (
        ClipSampler(store, 2, replace(WINDOWS, posterior=posterior))
        for posterior in ("mean", "sample", "sample")
    )
    for purpose in ("training", "validation"):
        one, other = (each.batch(purpose, 0, 0, 1) for each in (mean, drawn))
        noise = (other.latents - one.latents).flatten(1)
        assert (noise.std(1) > 0.04).all()  # exp(-6 / 2)
        assert (noise.std(1) < 0.4).all()  # exp(-2 / 2)
        assert not torch.equal(noise[0], noise[1])
        assert torch.equal(one.audio, other.audio)  # the same windows
        assert torch.equal(other.latents, again.batch(purpose, 0, 0, 1).latents)
    assert mean.data_signature() != drawn.data_signature()


def test_a_bucket_is_read_as_it_is_told_to(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = {"layout": LAYOUT, "clip_frames": FRAMES}
    data = StoreClips(store=f"file://{folder}", copies=tmp_path / "copies", **given)
    data.setup("fit")
    data.batches()("training", 0, 0, 1)
    assert len(list((tmp_path / "copies").glob("*/clips/*/*.safetensors"))) == 6
    options = {"client_options": {"no such option": "x"}}
    data = StoreClips(store="http://127.0.0.1:1/store", bucket_options=options, **given)
    with pytest.raises(StoreError, match="no such option"):
        data.setup("fit")


def test_more_ranks_than_clips_are_refused_before_the_first_step(folder, sampler):
    clips = len(sampler().rows)
    given = {"store": str(folder), "layout": LAYOUT}
    data = StoreClips(**given, clip_frames=FRAMES, batch_size=clips)
    data.trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        use_distributed_sampler=False,
        logger=False,
        barebones=True,
    )
    with pytest.raises(ConfigurationError, match=f"takes {2 * clips}"):
        data.setup("fit")
    data.setup("validate")
    with pytest.raises(ConfigurationError, match=f"takes {clips + 1}"):
        StoreClips(**given, clip_frames=FRAMES, batch_size=clips + 1).setup("fit")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_data_module_gives_them_to_a_trainer(folder, workers):
    data = StoreClips(
        store=str(folder),
        layout=LAYOUT,
        clip_frames=FRAMES,
        batch_size=2,
        workers=workers,
    )
    data.trainer = pl.Trainer(accelerator="cpu", max_steps=3, logger=False, barebones=True)
    expected = [data.sampler.batch("training", number, 0, 1) for number in range(3)]
    for clip, wanted in zip(data.train_dataloader(), expected, strict=True):
        assert torch.equal(clip.latents, wanted.latents)
        assert torch.equal(clip.audio, wanted.audio)
    there = len(data.sampler.held_out_rows) // 2
    assert 0 < there < data.validation_batches  # fewer than are asked for
    loaded = list(data.val_dataloader())
    assert len(loaded) == there
    for clip, alone in zip(loaded, data.held_out(), strict=True):
        assert torch.equal(clip.latents, alone.latents)
    assert data.held_out_batches(ranks=3) == len(data.sampler.held_out_rows) // 6
    with pytest.raises(ConfigurationError, match="holds no mirrored latents"):
        StoreClips(store=str(folder), mirror=0.5).setup("fit")
    with pytest.raises(ConfigurationError, match="holds no log-variance"):
        StoreClips(store=str(folder), posterior="sample").setup("fit")
    with pytest.raises(ConfigurationError, match="no log-variance of mirrored pictures"):
        StoreClips(store=str(folder), posterior="sample", mirror=0.5)


@pytest.mark.parametrize("other", ["vae", "audio_encoder", "latents"])
def test_parts_that_did_not_make_the_store_are_refused(make_pipeline, tmp_path, other):
    """Also the same weights with another scaling, which stored latents have in them."""
    made, given = make_pipeline(), make_pipeline(seed=int(other != "latents"))
    if other == "vae":
        given.audio_encoder = made.audio_encoder
    if other == "audio_encoder":
        given.vae = made.vae
    models = store_fingerprints(made.vae, made.audio_encoder)
    create_store(tmp_path / "store", StoreDescription(16, (4, 8, 8), (3, 8), models=models))
    build_index(tmp_path / "store")
    if other == "latents":
        given.vae.register_to_config(scaling_factor=0.5)
    for name, pipeline in (("right", made), ("wrong", given)):
        pipeline.save_pretrained(tmp_path / name)
    data = StoreClips(store=str(tmp_path / "store"), layout=LAYOUT, clip_frames=FRAMES)
    settings = Settings(16, FRAMES, contract=DiffusionContract(layout=LAYOUT))

    def setup(**parts):
        stage = LoopyModule(made.network, made.scheduler, settings, **parts)
        stage._trainer = SimpleNamespace(datamodule=data, is_global_zero=False)
        stage.setup("fit")

    setup(parts=tmp_path / "right")
    with pytest.raises(ConfigurationError, match=f"another .*{other}"):
        setup(parts=tmp_path / "wrong")
    with pytest.raises(ConfigurationError, match="give the folder of those that"):
        setup()
