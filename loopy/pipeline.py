"""LoopyPipeline: a portrait and a voice become a talking video."""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.ahead import one_ahead
from loopy.data.media.portrait import Box, Crop, FramedPortrait, frame_portrait
from loopy.data.media.sound import LONGEST_S, Sound, as_samples
from loopy.data.media.still import Portrait
from loopy.data.media.video import Video
from loopy.devices import Precision, dtype_of, usable
from loopy.diffusion.clip_loop import ClipLoop
from loopy.diffusion.objective import check_schedule
from loopy.diffusion.options import SamplingOptions
from loopy.diffusion.rollout import NO_CONDITIONS
from loopy.diffusion.sampler import Scheduler
from loopy.diffusion.settings import Settings
from loopy.drafts import existing_folder, output_errors
from loopy.errors import OutputError
from loopy.models import AudioEncoder, DualUNet, SpeechEncoder
from loopy.models.folder import (
    CONDITION,
    INDEX,
    PARTS,
    check_saveable,
    find_folder,
    load_parts,
    read_index,
    save_part,
    write_model_index,
)
from loopy.models.gate import Gate
from loopy.models.latents import Autoencoder, decode_frames, encode_images, latents_shape
from loopy.models.live_features import LiveOptions
from loopy.models.weights import made_with
from loopy.paths import path_of
from loopy.session import Session
from loopy.stopwatch import Stopwatch
from loopy.subject import Subject
from loopy.timing import FPS, AudioWindow, frame_count


class LoopyPipeline:
    """Everything that inference needs; no lightning.

    Args:
        network: Reference net, denoiser and audio modules.
        audio_encoder: wav2vec2, or another speech encoder.
        vae: Autoencoder of the pictures.
        scheduler: Noise schedule, as trained.
        settings: See `Settings`.

    Raises:
        ConfigurationError: A schedule that training and sampling cannot share, or settings that
            the networks do not fit.
    """

    def __init__(
        self,
        network: DualUNet,
        audio_encoder: SpeechEncoder,
        vae: Autoencoder,
        scheduler: Scheduler,
        settings: Settings,
    ) -> None:
        check_schedule(scheduler)
        settings.check(network, vae)
        self.network = network
        self.audio_encoder = audio_encoder
        self.vae = vae
        self.scheduler = scheduler
        self.settings = settings
        self._made_with: tuple[DualUNet, Autoencoder, str] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "toon",
        *,
        dtype: Precision | torch.dtype | None = None,
        audio_encoder: SpeechEncoder | None = None,
        vae: Autoencoder | None = None,
        scheduler: Scheduler | None = None,
    ) -> Self:
        """Load a model: an embedded one by name, a folder, or a hub id (``owner/name``).

        Args:
            model: Which.
            dtype: Precision of the networks inside the sampling loop, as of `to`; None: float32.
            audio_encoder: In place of the model's own, which is not read then.
            vae: Likewise: of the same latents.
            scheduler: Likewise: of the same noise schedule and prediction type.

        Raises:
            ModelError: No such model, a file is missing or damaged, or weights do not fit.
        """
        folder = find_folder(model)
        index = read_index(folder)
        settings = Settings.from_json(index.get("settings", {}))
        given = {"audio_encoder": audio_encoder, "vae": vae, "scheduler": scheduler}
        parts, conditions = load_parts(folder, index, given)
        network = DualUNet(
            parts["reference_net"],
            parts["denoiser"],
            parts.get("audio_projection"),
            parts.get("audio_to_latents"),
            conditions=conditions,
            reference_projection=settings.reference_projection,
        )
        others = (parts["audio_encoder"], parts["vae"].eval(), parts["scheduler"])
        pipe = cls(network.eval(), *others, settings)
        return pipe if dtype is None else pipe.to(dtype=dtype)

    def save_pretrained(
        self, folder: str | Path, *, dtype: Precision | torch.dtype | None = None
    ) -> None:
        """Write the model as a folder in the diffusers form.

        A model that is there already is replaced; cut off on the way, the folder is no model.

        Args:
            folder: Where it goes.
            dtype: Precision of the files; None = that of the networks, which stay as they are.

        A speech encoder that is no wav2vec2 is left out: `from_pretrained` is given it.

        Raises:
            ModelError: An autoencoder or a scheduler that a folder cannot hold.
            OutputError: It cannot be written there.
        """
        folder = path_of(folder, OutputError)
        precision = None if dtype is None else dtype_of(dtype)
        parts = self._parts()
        for part, module in parts.items():
            check_saveable(module, part)
        with output_errors(existing_folder(folder)):
            (folder / INDEX).unlink(missing_ok=True)
        for part, module in parts.items():
            save_part(module, folder, part, dtype=precision)
        write_model_index(
            folder,
            asdict(self.settings),
            without=[part for part in PARTS if part not in parts],
            conditions=list(self.network.conditions),
        )

    def to(
        self,
        device: torch.device | str | None = None,
        *,
        dtype: Precision | torch.dtype | None = None,
    ) -> Self:
        """Move the networks.

        Args:
            device: Where to; None leaves them where they are.
            dtype: Precision of the networks inside the sampling loop, as torch's type or its name;
                the sampler's state, the autoencoder and the audio encoder keep theirs.

        Raises:
            ConfigurationError: No such device, or no precision of networks.
        """
        device = usable(self.vae.device if device is None else device)
        precision = None if dtype is None else dtype_of(dtype)
        _ = self.weights  # those of the model, whatever precision it runs in
        self.network.to(device=device, dtype=precision)
        self.audio_encoder.to(device)
        self.vae.to(device)  # pyright: ignore[reportArgumentType]  # diffusers wraps it
        return self

    def frame(
        self, portrait: Portrait, *, box: Box | None = None, crop: Crop = "face", face: int = 0
    ) -> FramedPortrait:
        """Find the square of a picture that the model takes; see `frame_portrait`.

        Raises:
            MediaError: No such file, or not a usable picture.
            FaceNotFoundError: No face that can be used.
        """
        return frame_portrait(portrait, box=box, crop=crop, face=face, drawn=self.settings.toons)

    def prepare(
        self,
        portrait: Portrait | FramedPortrait,
        *,
        box: Box | None = None,
        crop: Crop = "face",
        face: int = 0,
    ) -> Subject:
        """Encode a portrait once, for any number of voices.

        Warns where a model of toons is given something else, as `loopy.models.gate.Gate` sees it.

        Args:
            portrait: A picture: a file, of Pillow, uint8 pixels
                (`loopy.data.media.still.of_pixels`), or one that is framed.
            box: Square to cut out, left-top-right-bottom in pixels.
            crop: Without a box: around the "face" as training shows it, where ``loopy faces
                install`` was run; the "center"; or "none" for a square picture.
            face: Which face; 0 is the largest.

        Raises:
            MediaError: No such file, or not a usable picture.
            FaceNotFoundError: No face that can be used, with crop "face".
        """
        if not isinstance(portrait, FramedPortrait):
            drawn = self.settings.toons
            portrait = frame_portrait(portrait, box=box, crop=crop, face=face, drawn=drawn)
        picture = portrait.cut(self.settings.size_px)
        if self.settings.toons and not self._gate.passes(picture):
            warnings.warn(
                f"this model animates {self.settings.domain}; the portrait seems to be something "
                "else and will look wrong. Cut a face out of a larger picture with --box; for "
                "photographs train or load a real-size model (docs/training.md)",
                stacklevel=2,
            )
        return Subject(encode_images(self.vae, picture[None].to(self.vae.device)), self.weights)

    def num_clips(self, sound: Float[Tensor, "samples"]) -> int:
        """How many clips a sound takes."""
        return -(-frame_count(len(sound)) // self.settings.clip_frames)

    @property
    def audio_window(self) -> AudioWindow:
        """Whose sound a frame hears; that of the paper where nothing is heard."""
        projection = self.network.audio_projection
        return AudioWindow() if projection is None else projection.window

    @torch.no_grad()
    def stream(
        self,
        subject: Subject | Portrait,
        sound: Sound,
        *,
        seed: int = 0,
        options: SamplingOptions | None = None,
        rate_hz: int = 16_000,
        conditions: Mapping[str, Float[Tensor, "f v"]] = NO_CONDITIONS,
        stopwatch: Stopwatch | None = None,
        motion_frames: bool = True,
        ahead: bool = False,
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """Make a video clip by clip, in memory that does not grow.

        Args:
            subject: From `prepare`, or a portrait to prepare.
            sound: A file with sound, samples, or a pair of them and their rate.
            seed: The video is a function of it.
            options: What to sample otherwise than the model itself says.
            rate_hz: Sample rate of samples that come without one.
            conditions: Values for each frame of the video, by the names of the network's further
                conditions; NaN, and frames beyond the last row: none.
            stopwatch: Takes the seconds of audio, reference, denoise and decode.
            motion_frames: False makes each clip as if none was before it: a baseline.
            ahead: Denoise the next clip, in a thread of its own, while the last one is decoded and
                used. The same video, in more memory: for devices whose cores are not all busy.

        Yields:
            Frames of the next clip; the last one is cut so that all frames together are
            round(seconds x fps).

        Raises:
            MediaError: Portrait or sound is unusable.
            SubjectError: The subject was prepared with another model.
            ConfigurationError: The options are no `SamplingOptions`.
            ModelError: A clip is not finite.
        """
        watch = stopwatch or Stopwatch()
        with watch("audio"):
            samples = self.load_audio(sound, rate_hz=rate_hz).to(self.vae.device)
        with watch("reference"):
            loop = self._loop(
                subject, options, seed=seed, conditions=conditions, motion_frames=motion_frames
            )
        left, clip_frames = frame_count(len(samples)), self.settings.clip_frames

        def denoised() -> Iterator[Tensor]:
            features = self.audio_encoder.clips(samples, clip_frames, window=self.audio_window)
            for _ in range(self.num_clips(samples)):
                with watch("audio"):
                    audio = next(features)
                with watch("denoise"):
                    latents = loop.step(audio)
                yield latents

        for latents in one_ahead(denoised()) if ahead else denoised():
            with watch("decode"):
                frames = decode_frames(self.vae, latents[0, :left])
            left -= len(frames)
            yield frames

    def session(
        self,
        subject: Subject | Portrait,
        *,
        seed: int = 0,
        options: SamplingOptions | None = None,
        rate_hz: int = 16_000,
        hearing: LiveOptions | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> Session:
        """Begin a video of sound as it is spoken; see `loopy.session.Session`.

        Args:
            subject: From `prepare`, or a portrait to prepare.
            seed: The video is a function of it and of the sound.
            options: What to sample otherwise than the model itself says.
            rate_hz: Sample rate of what will be pushed.
            hearing: Look-ahead, and how much sound the encoder hears.
            stopwatch: Takes the seconds of audio, denoise and decode.

        Raises:
            MediaError: The portrait is unusable, or the rate impossible.
            SubjectError: The subject was prepared with another model.
            ConfigurationError: Options that make no sense.
        """
        return Session(
            self._loop(subject, options, seed=seed),
            self.audio_encoder,
            self.vae,
            settings=self.settings,
            window=self.audio_window,
            rate_hz=rate_hz,
            options=hearing,
            stopwatch=stopwatch,
        )

    def __call__(
        self,
        subject: Subject | Portrait,
        sound: Sound,
        *,
        seed: int = 0,
        options: SamplingOptions | None = None,
        rate_hz: int = 16_000,
        conditions: Mapping[str, Float[Tensor, "f v"]] = NO_CONDITIONS,
    ) -> Video:
        """Make a whole video in memory; arguments as for `stream`."""
        if not isinstance(sound, str | os.PathLike):
            sound = self.load_audio(sound, rate_hz=rate_hz)
        parts = self.stream(subject, sound, seed=seed, options=options, conditions=conditions)
        frames = torch.cat(list(parts))
        return Video(frames, FPS, sound)

    def load_audio(
        self, sound: Sound, *, rate_hz: int = 16_000, longest_s: float = LONGEST_S
    ) -> Float[Tensor, "samples"]:
        """Mono samples at 16 kHz of sound in any form; see `loopy.data.media.sound.as_samples`.

        Raises:
            MediaError: Missing, unreadable, too short or long, or no sound.
        """
        return as_samples(sound, rate_hz=rate_hz, longest_s=longest_s)

    def _loop(
        self, subject: Subject | Portrait, options: SamplingOptions | None, **given: Any
    ) -> ClipLoop:
        """The loop over clips of a subject; ``given`` as `ClipLoop` takes it."""
        sampling, contract = self.settings.sampling.altered(options), self.settings.contract
        check_schedule(self.scheduler)  # it may be another than at first
        if not isinstance(subject, Subject):
            subject = self.prepare(subject)
        subject.check(self.weights, latents_shape(self.vae, self.settings.size_px))
        portrait = subject.latents.to(self.network.denoiser.device)
        nets = self.network, self.scheduler
        return ClipLoop(*nets, portrait, contract=contract, sampling=sampling, **given)

    @property
    def weights(self) -> str:
        """What subjects are made for: `made_with` of the networks, before any change of dtype."""
        if self._made_with is None or self._made_with[:2] != (self.network, self.vae):
            self._made_with = self.network, self.vae, made_with(self.network, self.vae)
        return self._made_with[2]

    def _parts(self) -> dict[str, Any]:
        """What a folder holds of it, by part."""
        homes = {name: self.network if hasattr(self.network, name) else self for name in PARTS}
        given = {name: getattr(home, name) for name, home in homes.items()}
        if not isinstance(self.audio_encoder, AudioEncoder):
            given["audio_encoder"] = None
        given |= {CONDITION + name: part for name, part in self.network.conditions.items()}
        return {name: part for name, part in given.items() if part is not None}

    @cached_property
    def _gate(self) -> Gate:
        return Gate.from_pretrained()
