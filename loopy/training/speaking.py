"""The user's own portraits speak while a model trains, by the pipeline of inference."""

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl

from loopy.data.media.portrait import read_portrait
from loopy.data.media.sound import read_audio
from loopy.drafts import draft
from loopy.errors import ConfigurationError
from loopy.timing import SAMPLE_RATE_HZ
from loopy.training.sharding import is_sharded


@dataclass(frozen=True)
class Speech:
    """Who says what.

    Args:
        portrait: A picture of a face.
        sound: A file with a voice.
    """

    portrait: Path
    sound: Path

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.portrait.stem}_{self.sound.stem}"


class SpeakingPortraits(pl.Callback):
    """After each validation lets portraits speak: averaged weights, the precision of the training.

    Writes ``samples/step_<step>_<portrait>_<sound>.mp4``, with the sound, and a sheet of its frames
    beside it as PNG, in the run's folder. Always the same noise, so that two steps compare.

    Args:
        speeches: Who says what.
        seconds: So much of each sound.

    Raises:
        ConfigurationError: Two speeches whose videos would have the same name.
    """

    def __init__(self, speeches: list[Speech], seconds: float = 3.0) -> None:
        names = [speech.name for speech in speeches]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"two of the videos {', '.join(sorted(names))} have one name; rename a file"
            )
        self.speeches, self.seconds = speeches, seconds

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads what this rank will read, so that a wrong name is told before the first validation.

        Raises:
            MediaError: One of them is missing or unusable.
        """
        if not (trainer.is_global_zero or is_sharded(pl_module)):
            return  # it will not read them
        for speech in self.speeches:
            read_portrait(speech.portrait, size_px=64)
            read_audio(speech.sound)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Animates before the averaged weights are taken out again."""
        together = is_sharded(pl_module)  # no device has all weights, so all make the same
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if not (trainer.is_global_zero or together):
            return
        pipeline = pl_module.pipeline()  # pyright: ignore[reportCallIssue]
        folder = Path(trainer.default_root_dir) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        for speech in self.speeches:
            heard = read_audio(speech.sound)[: round(self.seconds * SAMPLE_RATE_HZ)]
            with trainer.precision_plugin.forward_context():
                video = pipeline(speech.portrait, heard)
            if not trainer.is_global_zero:
                continue
            path = folder / f"step_{trainer.global_step:06d}_{speech.name}.mp4"
            video.save(path)
            with draft(path.with_suffix(".png")) as hidden:
                video.sheet().save(hidden)
