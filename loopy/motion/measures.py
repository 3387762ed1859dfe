"""Two numbers that say how much a clip moves (Loopy sec. 3.3).

Both are variances over time in px^2 of a 512 px crop; other crop sizes are rescaled.
"""

from jaxtyping import Float
from torch import Tensor

from loopy.motion.sequence import NOSE_TIP, MotionSequence

UPPER_FACE_37 = (0, 1, 2, *range(14, 48))
"""All 37 points above the mouth: six jaw ends, brows, nose, eyes. The paper says 37 upper-face
points and not which; no other choice of whole mouth-free groups gives 37."""

REFERENCE_SIZE_PX = 512


def head_motion_variance(motion: MotionSequence, *, fewest: float = 0.5) -> Float[Tensor, ""]:
    """Variance of the nose tip's position: x and y summed.

    Args:
        motion: The track of one clip.
        fewest: Smallest share of frames in which the nose tip must be valid.

    Returns:
        px^2 at 512; NaN when too few frames are valid (the condition is then not drawn).
    """
    return _variance(motion.points[:, [NOSE_TIP]], motion.valid[:, [NOSE_TIP]], motion, fewest)


def expression_variance(motion: MotionSequence, *, fewest: float = 0.5) -> Float[Tensor, ""]:
    """Variance of the 37 upper-face points relative to the nose tip, averaged over points.

    Args:
        motion: The track of one clip.
        fewest: Smallest share of points x frames that must be valid.

    Returns:
        px^2 at 512; NaN when too few are valid.
    """
    upper = list(UPPER_FACE_37)
    relative = motion.points[:, upper] - motion.points[:, [NOSE_TIP]]
    valid = motion.valid[:, upper] & motion.valid[:, [NOSE_TIP]]
    return _variance(relative, valid, motion, fewest)


def _variance(points: Tensor, valid: Tensor, motion: MotionSequence, fewest: float) -> Tensor:
    """Mean over points of the variance in time, over valid entries only."""
    count = valid.sum(0)
    if len(motion) < 2 or valid.float().mean() < fewest or not (count > 1).any():
        return points.new_tensor(float("nan"))
    weight = valid[..., None].to(points)
    points = points.masked_fill(~valid[..., None], 0.0)  # NaN where a detector found nothing
    mean = points.sum(0) / count.clamp(min=1)[:, None]
    squares = ((points - mean) ** 2 * weight).sum((0, 2)) / count.clamp(min=1)
    return squares[count > 1].mean() * (REFERENCE_SIZE_PX / motion.size_px) ** 2
