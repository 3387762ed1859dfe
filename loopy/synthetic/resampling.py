"""Sound in memory to 16 kHz, by torchaudio and a kernel built once per rate."""

from collections.abc import Callable
from functools import cache

from jaxtyping import Float
from torch import Tensor

from loopy.errors import DependencyError
from loopy.timing import SAMPLE_RATE_HZ


@cache
def to_16_khz(rate_hz: int) -> Callable[[Float[Tensor, "*b t"]], Float[Tensor, "*b t"]]:
    """A resampler from `rate_hz` to 16 kHz that lets no alias through (below -110 dB).

    Raises:
        DependencyError: torchaudio is missing, or its build is not that of torch.
    """
    try:
        from torchaudio.transforms import Resample
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"torchaudio does not load ({error}); install the torch and torchaudio builds of "
            "constraints.txt"
        ) from error
    return Resample(
        rate_hz,
        SAMPLE_RATE_HZ,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=64,
        rolloff=0.9476,
        beta=14.77,
    )
