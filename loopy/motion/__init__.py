"""Face tracks over time, and the measures taken from them."""

from loopy.motion.boxes import FACE_PARTS, box_mask, part_mask
from loopy.motion.measures import UPPER_FACE_37, expression_variance, head_motion_variance
from loopy.motion.mirror import MIRRORED_68, mirrored
from loopy.motion.sequence import NOSE_TIP, MotionSequence

__all__ = [
    "FACE_PARTS",
    "MIRRORED_68",
    "NOSE_TIP",
    "UPPER_FACE_37",
    "MotionSequence",
    "box_mask",
    "expression_variance",
    "head_motion_variance",
    "mirrored",
    "part_mask",
]
