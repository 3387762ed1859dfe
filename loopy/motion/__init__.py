"""Face tracks over time, and the measures taken from them."""

from loopy.motion.measures import UPPER_FACE_37, expression_variance, head_motion_variance
from loopy.motion.sequence import NOSE_TIP, MotionSequence

__all__ = [
    "NOSE_TIP",
    "UPPER_FACE_37",
    "MotionSequence",
    "expression_variance",
    "head_motion_variance",
]
