"""The landmark estimators by name."""

from collections.abc import Callable
from inspect import signature

from loopy.errors import ConfigurationError
from loopy.preprocess.dwpose_onnx import dwpose_by_rtmlib
from loopy.preprocess.dwpose_pypi import dwpose_by_pypi
from loopy.preprocess.poses import PoseEstimator
from loopy.preprocess.precomputed import Precomputed

ESTIMATORS: dict[str, Callable[..., PoseEstimator]] = {
    "dwpose": dwpose_by_rtmlib,
    "dwpose-pypi": dwpose_by_pypi,
    "precomputed": Precomputed,
}


def estimator(name: str, **options: object) -> PoseEstimator:
    """Builds a landmark estimator.

    Args:
        name: "dwpose", "dwpose-pypi" or "precomputed".
        options: Keyword arguments of `dwpose_by_rtmlib`, `dwpose_by_pypi` or `Precomputed`.

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
