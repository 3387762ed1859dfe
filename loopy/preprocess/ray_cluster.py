"""Ray: where it runs, started here or joined, kept quiet and left as it was found."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from loopy.errors import ConfigurationError, DependencyError


@dataclass(frozen=True)
class RayOptions:
    """Where Ray works, and with what.

    Args:
        address: Of a running cluster, or ``auto``; None starts Ray on this machine. All of its
            machines must see videos, models and store at the same full paths.
        encoders: Processes that hold the networks.
        encoder_gpus: GPUs of each of them, 0.5 for two on one; 0 computes on a core.
        decoder_gpus: GPUs of each process that decodes, for an estimator of landmarks on "cuda".
    """

    address: str | None = None
    encoders: int = 1
    encoder_gpus: float = 0.0
    decoder_gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what means nothing.

        Raises:
            ConfigurationError: No encoder, or less than nothing.
        """
        if self.encoders < 1:
            raise ConfigurationError(f"encoders={self.encoders}; give 1 or more")
        if min(self.encoder_gpus, self.decoder_gpus) < 0:
            raise ConfigurationError("encoder_gpus and decoder_gpus are 0 or more")


@contextmanager
def running_ray(options: RayOptions, *, workers: int = 0) -> Generator[ModuleType]:
    """Ray with what is asked for; the one that runs in this process already, if one does.

    Args:
        options: Where, and what it must have.
        workers: Cores of this machine to use; 0 uses all. Not with an address.

    Yields:
        The module `ray`, with `ray.data`.

    Raises:
        DependencyError: It is not installed.
        ConfigurationError: It does not start, or has too little.
    """
    if options.address and workers:
        raise ConfigurationError(f"workers={workers} are of this machine; not with an address")
    ray = _import_ray()
    started = not ray.is_initialized()
    if started:
        _start(ray, options, workers)
    printers = [
        handler
        for handler in logging.getLogger("ray.data").handlers
        if isinstance(handler, logging.StreamHandler)  # the other one writes Ray's log file
    ]
    levels = [handler.level for handler in printers]
    try:
        for handler in printers:
            handler.setLevel(logging.CRITICAL)
        _check(ray.cluster_resources(), options)
        yield ray
    finally:
        for handler, level in zip(printers, levels, strict=True):
            handler.setLevel(level)
        if started:
            ray.shutdown()


def _import_ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(
            "the engine ray needs Ray Data: pip install 'loopy-portrait[ray]'"
        ) from error
    return ray


def _start(ray: ModuleType, options: RayOptions, workers: int) -> None:
    """Starts or joins it. In one that `ray.init` starts, Ray has telemetry off by itself."""
    if options.address is None:
        where = {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
    else:
        where = {"address": options.address}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"Ray does not start: {reason}") from error


def _check(found: dict[str, float], options: RayOptions) -> None:
    """Ray would wait without end for what it does not have."""
    gpus = options.encoders * options.encoder_gpus + options.decoder_gpus
    cores = 1 + (0 if options.encoder_gpus else options.encoders)
    for name, needed in {"CPU": cores, "GPU": gpus}.items():
        if needed > found.get(name, 0):
            raise ConfigurationError(
                f"{options.encoders} encoders and a decoder take {needed:g} {name}s, and Ray has "
                f"{found.get(name, 0):g}; ask for fewer encoders"
            )
