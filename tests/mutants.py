"""Hand-made faults, and the tests that must catch them: `make mutants`.

Each fault is put into a copy of the package; the tests named beside it then run on that copy and
must fail. A fault that survives is a hole in the tests.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A fault: in `file`, `right` (which occurs once) becomes `wrong`; `tests` must fail."""

    file: str
    right: str
    wrong: str
    tests: str


MUTANTS = (
    # timing: off by a half, off by one, clamped at one end only
    Mutant("timing.py", "* fps + Fraction(1, 2))", "* fps)", "test_timing.py"),
    Mutant("timing.py", "torch.arange(-before, after + 1)", "torch.arange(-before, after)", "test_timing.py"),
    Mutant("timing.py", ".clamp(0, max(frames - 1, 0))", ".clamp(0)", "test_timing.py"),
    # segments: the near end, no growth, newest first, one frame too far, wrong mask
    Mutant("segments.py", "return stop - 1", "return start", "test_segments.py"),
    Mutant("segments.py", "width = self.expand**k", "width = self.expand * k + 1", "test_segments.py"),
    Mutant("segments.py", "return slots.flip(1), present.flip(0)", "return slots, present", "test_segments.py"),
    Mutant("segments.py", "length - 1 - self.distances", "length - self.distances", "test_segments.py"),
    Mutant("segments.py", "present = index >= 0", "present = index >= -1", "test_segments.py"),
    # motion: forgotten rescaling, forgotten nose, invalid points counted, off centre
    Mutant("motion/measures.py", "(REFERENCE_SIZE_PX / motion.size_px) ** 2", "1", "test_motion.py"),
    Mutant("motion/measures.py", " - motion.points[:, [NOSE_TIP]]\n", "\n", "test_motion.py"),
    Mutant("motion/measures.py", "** 2 * weight)", "** 2)", "test_motion.py"),
    Mutant("motion/sequence.py", "self.points / self.size_px - 0.5", "self.points / self.size_px", "test_motion.py"),
    # guidance: a sign, a branch that is not dropped, an interval off by one step
    Mutant("diffusion/guidance.py", "Branch(self.reference - self.audio,", "Branch(self.audio - self.reference,", "diffusion/test_guidance.py"),
    Mutant("diffusion/guidance.py", "if branch.coefficient)", ")", "diffusion/test_guidance.py"),
    Mutant("diffusion/guidance.py", "Branch(1.0 - self.reference, False, False)", "Branch(1.0 - self.reference, False, True)", "diffusion/test_guidance.py"),
    # noise: swapped shares
    Mutant("diffusion/objective.py", "return a.sqrt() * latents + (1 - a).sqrt() * noise", "return (1 - a).sqrt() * latents + a.sqrt() * noise", "diffusion/test_objective.py"),
    # rollout: history cut at the wrong end, the same noise in every clip, past as if full
    Mutant("diffusion/rollout.py", "[:, -options.layout.past_frames :]", "[:, : options.layout.past_frames]", "diffusion/test_rollout.py"),
    Mutant("diffusion/rollout.py", 'generator(state.seed, "clip", state.clip)', 'generator(state.seed, "clip")', "diffusion/test_rollout.py"),
    Mutant("diffusion/rollout.py", "None if present.all() else present", "None", "diffusion/test_rollout.py"),
    # networks: masks dropped, branches swapped, a branch that is not silent at birth
    Mutant("nn/attention.py", "(own, 0), value=True", "(own, 0), value=False", "nn models"),
    Mutant("nn/attention.py", "nn.init.zeros_(self.to_out[0].weight)\n", "nn.init.ones_(self.to_out[0].weight)\n", "nn models"),
    Mutant("nn/temporal.py", "here = here + self.kinds[1]", "here = here + self.kinds[0]", "nn models"),
    Mutant("nn/temporal.py", "self.positions[self.motion_slots : self.motion_slots + frames]", "self.positions[:frames]", "nn models"),
    Mutant("models/dual.py", "past_present=attended & presence.reference[:, None]", "past_present=attended", "nn models"),
    Mutant("models/dual.py", "tokens * presence.audio[:, None, None, None].to(tokens)", "tokens", "nn models"),
    Mutant("models/dual.py", "motion * presence.motion_latents[:, None, None].to(motion)", "motion", "nn models"),
)  # fmt: skip


def passes(copy: Path, tests: str) -> bool:
    """Runs tests on the copy of the package."""
    places = [f"tests/{place}" for place in tests.split()]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *places],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"the tests {tests} did not run:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def survives(mutant: Mutant, copy: Path) -> bool:
    """Puts the fault into the copy, runs its tests there, and takes it out again."""
    file = copy / "loopy" / mutant.file
    right = file.read_text()
    if right.count(mutant.right) != 1:
        sys.exit(f"{mutant.file}: {mutant.right!r} must occur once; mend tests/mutants.py")
    file.write_text(right.replace(mutant.right, mutant.wrong))
    survived = passes(copy, mutant.tests)
    file.write_text(right)
    return survived


def main() -> int:
    """Tries every fault, or those in files that `sys.argv` names a part of; 1 if one survives."""
    chosen = [m for m in MUTANTS if any(part in m.file for part in sys.argv[1:] or [""])]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(
            ROOT / "loopy", copy / "loopy", ignore=shutil.ignore_patterns("assets", "__pycache__")
        )
        (copy / "loopy/assets").symlink_to(ROOT / "loopy/assets")
        for tests in sorted({mutant.tests for mutant in chosen}):
            if not passes(copy, tests):
                sys.exit(f"the tests {tests} fail without any fault; mend them first")
        for mutant in chosen:
            survived = survives(mutant, copy)
            survivors += survived
            fate = "SURVIVES" if survived else "caught by"
            print(f"{mutant.file}: {mutant.wrong.strip()!r} {fate} {mutant.tests}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
