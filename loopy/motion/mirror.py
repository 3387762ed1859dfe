"""A face track of the mirrored picture."""

import torch

from loopy.motion.sequence import MotionSequence

MIRRORED_68 = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # bridge of the nose
    *range(35, 30, -1),  # its base
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,  # eyes
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,  # outer lips
    64, 63, 62, 61, 60, 67, 66, 65,  # inner lips
)  # fmt: skip
"""Which iBUG point each one becomes when left and right change sides."""


def mirrored(motion: MotionSequence) -> MotionSequence:
    """The track that a detector would find in the mirrored pictures."""
    order = list(MIRRORED_68)
    across, down = motion.points[:, order].unbind(-1)
    return MotionSequence(
        torch.stack([motion.size_px - across, down], -1),
        motion.pose * motion.pose.new_tensor([-1.0, 1.0, -1.0]),
        motion.valid[:, order],
        motion.size_px,
        motion.fps,
    )
