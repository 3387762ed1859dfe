"""Landmark estimators: what finds the 68 points of a face, by name."""

from collections.abc import Callable
from inspect import signature

from loopy.errors import ConfigurationError
from loopy.preprocess.landmarks.dwpose import dwpose_by_pypi, dwpose_by_rtmlib
from loopy.preprocess.landmarks.precomputed import Precomputed
from loopy.preprocess.landmarks.types import LandmarkEstimator

ESTIMATORS: dict[str, Callable[..., LandmarkEstimator]] = {
    "dwpose": dwpose_by_rtmlib,
    "dwpose-pypi": dwpose_by_pypi,
    "precomputed": Precomputed,
}


def estimator(name: str, **options: object) -> LandmarkEstimator:
    """Builds a landmark estimator.

    Args:
        name: A key of `ESTIMATORS`.
        options: Keyword arguments of what stands there.

    Raises:
        ConfigurationError: No such estimator, or options it does not take or lacks.
        DependencyError: A library it needs is not installed.
        ModelError: Files of models that are missing or are other models.
        MediaError: Precomputed tracks that are missing or ill-formed.
    """
    if name not in ESTIMATORS:
        raise ConfigurationError(f"no landmark estimator {name!r}; there are {list(ESTIMATORS)}")
    build = ESTIMATORS[name]
    try:
        signature(build).bind(**options)
    except TypeError as error:
        raise ConfigurationError(f"landmark estimator {name!r}: {error}") from error
    return build(**options)
