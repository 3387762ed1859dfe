"""Landmark estimators: what finds the 68 points of a face, by name."""

from collections.abc import Callable
from inspect import signature
from pkgutil import resolve_name

from loopy.errors import ConfigurationError
from loopy.preprocess.landmarks.dwpose import dwpose_by_pypi, dwpose_by_rtmlib
from loopy.preprocess.landmarks.mediapipe import MediaPipe
from loopy.preprocess.landmarks.precomputed import Precomputed
from loopy.preprocess.landmarks.types import LandmarkEstimator

ESTIMATORS: dict[str, Callable[..., LandmarkEstimator]] = {
    "dwpose": dwpose_by_rtmlib,
    "dwpose-pypi": dwpose_by_pypi,
    "mediapipe": MediaPipe,
    "precomputed": Precomputed,
}


def estimator(name: str, **options: object) -> LandmarkEstimator:
    """Builds a landmark estimator.

    Args:
        name: A key of `ESTIMATORS`, or the path of a class that is importable
            (``my_package.Estimator``), whose instances are a `LandmarkEstimator`.
        options: Keyword arguments of what stands there.

    Raises:
        ConfigurationError: No such estimator, or options it does not take or lacks.
        DependencyError: A library it needs is not installed.
        ModelError: Files of models that are missing or are other models.
        MediaError: Precomputed tracks that are missing or ill-formed.
    """
    build = ESTIMATORS.get(name) or _imported(name)
    try:
        signature(build).bind(**options)
    except TypeError as error:
        raise ConfigurationError(f"landmark estimator {name!r}: {error}") from error
    return build(**options)


def _imported(name: str) -> Callable[..., LandmarkEstimator]:
    """The class of a dotted path."""
    try:
        found = resolve_name(name) if "." in name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"landmark estimator {name!r}: {error}") from error
    if not isinstance(found, type):
        raise ConfigurationError(
            f"no landmark estimator {name!r}; there are {list(ESTIMATORS)}, or give the path of a "
            "class (my_package.Estimator)"
        )
    return found
