"""What a model makes while it trains: held-out frames, and the user's own portraits speaking."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from loopy.data.media.portrait import FramedPortrait, frame_portrait
from loopy.data.media.sound import read_audio
from loopy.data.media.video import Video, contact_sheet
from loopy.diffusion.past import PastCache
from loopy.diffusion.rollout import next_clip
from loopy.drafts import draft
from loopy.errors import ConfigurationError, DependencyError, StoreError
from loopy.models.latents import decode_latents
from loopy.pipeline import LoopyPipeline
from loopy.pixels import to_pixels
from loopy.records import Clip
from loopy.synthetic.talker import random_talk
from loopy.timing import FPS, SAMPLE_RATE_HZ
from loopy.training.autoencoder import psnr
from loopy.training.datamodule import LoopyDataModule
from loopy.training.module import LoopyModule
from loopy.training.sharding import is_sharded

SEED = 2**62 + 0x5EED_CAFE
"""A talk of its own: with N training talks it is one of them with a chance of N / 2^32."""


@dataclass(frozen=True)
class PortraitAndSound:
    """A picture of a face, and a file with the voice with which it is made to speak."""

    portrait: Path
    sound: Path

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.portrait.stem}_{self.sound.stem}"


class ValidationSamples(pl.Callback):
    """Makes samples after each validation, in the folder ``samples`` of the run.

    - ``step_<step>.png`` and ``.mp4``: `HeldOut`; of an autoencoder its `sample_sheet()`;
    - ``step_<step>_<portrait>_<sound>.mp4``, with the sound, and a sheet of its frames (PNG): the
      user's own portraits, while a model is trained.

    Weights are the averaged ones, in the precision of the training, and the noise is always the
    same, so that two steps compare. The first rank makes them; under FSDP2 all do the same, since
    none has all weights. TensorBoard gets the sheets (it knows no video with sound), Weights &
    Biases the sheets and the videos.

    Args:
        speeches: Who says what.
        seconds: So much of each sound.
        psnr: Log ``val/psnr_db``, how near the held-out frames come to the truth, beside
            ``val/portrait_psnr_db``, what frames that only repeat the portrait would have. A
            measure where the clip is trained on, as `loopy.training.same_clip` does.

    Raises:
        ConfigurationError: Two speeches whose videos would have the same name.
    """

    def __init__(
        self,
        speeches: list[PortraitAndSound] | None = None,
        seconds: float = 3.0,
        *,
        psnr: bool = False,
    ) -> None:
        self.speeches, self.seconds, self.psnr = speeches or [], seconds, psnr
        self._framed = dict[str, FramedPortrait]()
        names = [speech.name for speech in self.speeches]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"two of the videos {', '.join(sorted(names))} have one name; rename a file"
            )

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads what this rank will read, so that a wrong name is an error at once."""
        if trainer.is_global_zero or is_sharded(pl_module):
            for speech in self.speeches:
                # a training is not ended by a face that is not found
                self._framed[speech.name] = frame_portrait(speech.portrait, drawn=True)
                read_audio(speech.sound)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes them before the averaged weights are taken out again."""
        if trainer.sanity_checking or not (trainer.is_global_zero or is_sharded(pl_module)):
            return
        samples: dict[str, tuple[Image.Image, Video | None]] = {}
        fitting = trainer.state.fn == "fit"  # `validate` gets the sheet alone
        with trainer.precision_plugin.forward_context():
            if not isinstance(pl_module, LoopyModule):
                samples[""] = pl_module.sample_sheet(), None  # pyright: ignore[reportCallIssue]
            else:
                pipeline = pl_module.pipeline()
                held_out = held_out_sample(pipeline, trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
                if held_out is not None:
                    samples[""] = held_out.sheet(), held_out.made
                    if self.psnr:
                        pl_module.log_dict(held_out.psnr_db, prog_bar=True, rank_zero_only=True)
                for speech in self.speeches if fitting else []:
                    audio = read_audio(speech.sound)[: round(self.seconds * SAMPLE_RATE_HZ)]
                    framed = self._framed[speech.name]
                    video = pipeline(pipeline.prepare(framed), audio)
                    samples[f"_{speech.name}"] = video.sheet(), video
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            for name, (sheet, video) in samples.items():
                path = folder / f"step_{trainer.global_step:06d}{name}.png"
                with draft(path) as hidden:
                    sheet.save(hidden)
                if video is not None:
                    video.save(path.with_suffix(".mp4"))
                if fitting:
                    _log(trainer, f"samples/{name.removeprefix('_') or 'held_out'}", path)


@dataclass(frozen=True)
class HeldOut:
    """A held-out face that speaks, by the sampling of inference.

    Attributes:
        truth: Its frames.
        made: The same frames as the model makes them of a portrait and the sound.
        psnr_db: How near they are, by the names that are logged; empty for a toon.
    """

    truth: UInt8[Tensor, "f h w 3"]
    made: Video
    psnr_db: dict[str, Tensor]

    def sheet(self) -> Image.Image:
        """Truth above what was made: all of a short one, else 24 frames in two pairs of rows."""
        frames = min(len(self.truth), len(self.made.frames))
        rows, columns = (2, 12) if frames > 12 else (1, frames)
        shown = torch.linspace(0, frames - 1, rows * columns).long()
        both = [
            each[shown].unflatten(0, (rows, columns)) for each in (self.truth, self.made.frames)
        ]
        return contact_sheet(torch.stack(both, 1).flatten(0, 2), columns=columns)


def held_out_sample(
    pipeline: LoopyPipeline, data: LoopyDataModule, *, seconds: float = 1.92
) -> HeldOut | None:
    """Lets a held-out face speak: a person of the store that is trained on, else a toon.

    A person's video is silent: a store holds no sound, only what the audio encoder made of it.

    None, with a warning, where the toon's voice is not installed, or the person's video is
    damaged; an error where weights are spread over devices, for the others would wait.

    Args:
        pipeline: The model.
        data: What it is trained on.
        seconds: How long the face speaks; a shorter video of a store ends sooner.
    """
    try:
        stretch = getattr(data, "held_out_stretch", None)  # any data module may train
        clips = stretch(round(seconds * FPS)) if stretch is not None else []
        return _person(pipeline, clips) if clips else _toon(pipeline, seconds)
    except (DependencyError, StoreError) as error:
        if is_sharded(pipeline.network):
            raise
        warnings.warn(f"there are no sample sheets: {error}", stacklevel=2)
        return None


def _toon(pipeline: LoopyPipeline, seconds: float) -> HeldOut:
    """The truth from second 1 on, and what is made of frame 0 and of the sound of second 1 on."""
    talk = random_talk(SEED, seconds=seconds + 1)
    size_px = pipeline.settings.size_px
    audio = talk.audio[SAMPLE_RATE_HZ:]
    truth = _pixels(talk.frames(range(25, len(talk.controls)), size_px=size_px))
    portrait = _pixels(talk.frames([0], size_px=size_px))[0]
    made = Video(torch.cat(list(pipeline.stream(portrait, audio))), audio=audio)
    return HeldOut(truth, made, {})


@torch.no_grad()
def _person(pipeline: LoopyPipeline, clips: list[Clip]) -> HeldOut:
    """Clips in a row, and what is made of the portrait of the first one and of their sound."""
    network, vae, settings = pipeline.network, pipeline.vae, pipeline.settings
    portrait = clips[0].reference.to(network.denoiser.device, network.denoiser.dtype)
    keys = network.encode_reference(portrait)
    state, cache = settings.contract.first_state(portrait, seed=0), PastCache()
    _, channels, height, width = portrait.shape
    truth, made = [], []
    for clip in clips:
        latents, state = next_clip(
            network,
            pipeline.scheduler,
            reference=keys,
            portrait=portrait,
            audio=clip.audio.to(portrait),
            state=state,
            size=(channels, height, width),
            contract=settings.contract,
            sampling=settings.sampling,
            conditions={n: values.to(portrait) for n, values in clip.conditions.items()},
            cache=cache,
        )
        for pictures, each in ((truth, clip.latents), (made, latents)):
            pictures.append(decode_latents(vae, each[0].to(vae.device)).float().cpu())
    true, same = torch.cat(truth), torch.cat(made)
    still = decode_latents(vae, portrait.to(vae.device)).float().cpu()
    near = {"val/psnr_db": same, "val/portrait_psnr_db": still}
    psnr_db = {name: psnr((true - pictures).square()) for name, pictures in near.items()}
    return HeldOut(_pixels(true), Video(_pixels(same)), psnr_db)


def _pixels(pictures: Float[Tensor, "f 3 h w"]) -> UInt8[Tensor, "f h w 3"]:
    return to_pixels(pictures.permute(0, 2, 3, 1)).cpu()


def _log(trainer: pl.Trainer, name: str, sheet: Path) -> None:
    """Gives a sheet, and the video of the same name, to the loggers."""
    step, video = trainer.global_step, sheet.with_suffix(".mp4")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            with Image.open(sheet, formats=["PNG"]) as opened:
                picture = opened.convert("RGB")
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            pixels = pixels.view(picture.height, picture.width, 3)
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [str(sheet)], step)
            if video.exists():
                logger.log_video(name, [str(video)], step)
