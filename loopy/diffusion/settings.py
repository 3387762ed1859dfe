"""What belongs to a model besides its weights: sizes, sampling, contract, domain."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from loopy.diffusion.options import GUIDANCE, DiffusionContract, Sampling
from loopy.errors import ConfigurationError, ModelError
from loopy.models import DualUNet
from loopy.models.latents import Autoencoder
from loopy.typed_values import record_of


@dataclass(frozen=True)
class Settings:
    """What belongs to a model besides its weights.

    Args:
        size_px: Side of its pictures.
        clip_frames: Frames of a clip.
        sampling: How it samples unless a call says otherwise.
        contract: What its weights were trained for.
        reference_projection: See `loopy.models.DualUNet`.
        domain: What portraits it was trained on, in words, for the warning about others.
        toons: Whether they are the toons of `loopy.synthetic`: a portrait then passes the gate of
            the package, and the judges of toons judge the videos.
    """

    size_px: int = 512
    clip_frames: int = 12
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)
    contract: DiffusionContract = DiffusionContract()  # noqa: RUF009 (frozen)
    reference_projection: Literal["denoiser", "reference"] = "denoiser"
    domain: str = "portraits"
    toons: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that no model has.

        Raises:
            ConfigurationError: ``size_px`` or ``clip_frames`` is out of range.
        """
        for name, most in (("size_px", 4096), ("clip_frames", 1024)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}, expected 1 to {most}; set another"
                )

    def check(self, network: DualUNet, vae: Autoencoder | None = None) -> None:
        """Make sure that settings and networks say the same.

        Args:
            network: What denoises.
            vae: The autoencoder; None: the size of pictures is not asked about.

        Raises:
            ConfigurationError: They differ, or the networks cannot halve a picture.
        """
        denoiser = network.denoiser.config
        pairs = {"reference_projection": (self.reference_projection, network.reference_projection)}
        if denoiser["clip_frames"] is not None:
            slots = (self.contract.layout.slots, denoiser["motion_slots"])
            pairs |= {"clip_frames": (self.clip_frames, denoiser["clip_frames"]), "slots": slots}
        if denoiser["audio_dim"] is not None and network.audio_projection is None:
            raise ConfigurationError(
                "the denoiser hears (audio_dim) and the model has no audio_projection; copy the "
                "whole folder, or export it again"
            )
        scales = dict[str, Any](network.conditions.items()).get(GUIDANCE)
        fits = scales is not None and scales.config["width"] == 2
        if self.contract.guidance_input and not fits:
            raise ConfigurationError(
                f"guidance_input of the contract needs a condition {GUIDANCE!r} of the networks: "
                f"conditions: {{{GUIDANCE}: loopy.models.FrameCondition of width 2}}"
            )
        for name, (ours, theirs) in pairs.items():
            if ours != theirs:
                raise ConfigurationError(
                    f"{name}: the settings say {ours}, the networks {theirs}; make them equal"
                )
        if vae is None:
            return
        widths = vae.config["block_out_channels"], denoiser["block_out_channels"]
        halvings = sum(len(each) - 1 for each in widths)
        if self.size_px % 2**halvings:
            raise ConfigurationError(
                f"size_px is {self.size_px}, which autoencoder and denoiser cannot halve "
                f"{halvings} times; set a multiple of {2**halvings}"
            )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from what `asdict` gave.

        Raises:
            ModelError: A name or value that makes no sense.
        """
        try:
            return record_of(cls, _of_today(values))
        except (TypeError, ValueError) as error:
            raise ModelError(f"the settings of the model make no sense: {error}") from error


def _of_today(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of any version in the form of this one.

    Raises:
        ValueError: They are no records.
    """
    if "rollout" in values:
        values = _renamed(values)
    if "fair_round_trip_db" in values:  # the warning before there was a gate
        toons = values.get("domain") == "toon portraits"
        others = {name: value for name, value in values.items() if name != "fair_round_trip_db"}
        values = {"toons": toons} | others
    return values


def _renamed(old: dict[str, Any]) -> dict[str, Any]:
    """Settings of the first form, in which one record held all of the sampling, in today's.

    Raises:
        ValueError: They are no records.
    """
    now = {name: value for name, value in old.items() if name != "rollout"}
    rollout = old["rollout"]
    guidance = rollout.get("guidance", {}) if isinstance(rollout, dict) else None
    if not isinstance(guidance, dict):
        raise ValueError(f"rollout is {rollout!r:.80}, expected names and values")
    names = {"layout": "layout", "noise_share": "shared_noise"}
    names |= {"residual": "residual", "still_start": "static_history"}
    contract = {names[name]: value for name, value in rollout.items() if name in names}
    sampling = {n: v for n, v in rollout.items() if n not in names and n != "guidance"}
    for name, value in guidance.items():
        sampling[f"guidance_{name}" if name in ("start", "stop") else f"{name}_ratio"] = value
    return now | {"sampling": sampling, "contract": contract}
