"""Hand-made faults, and the tests that must catch them: `make mutants`.

Each fault is put into a copy of the package; the tests named beside it then run on that copy and
must fail. A fault that survives is a hole in the tests.
"""

import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

# Imported once and shared with every child: seconds each time otherwise.
import diffusers
import pytest
import torch  # noqa: F401
import transformers

HEAVY = diffusers.UNet2DConditionModel, diffusers.AutoencoderKL, transformers.Wav2Vec2Model

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
    Mutant("timing.py", "torch.arange(-self.before, self.after + 1)", "torch.arange(-self.before, self.after)", "test_timing.py"),
    Mutant("timing.py", ".clamp(0, max(total - 1, 0))", ".clamp(0)", "test_timing.py"),
    # segments: the near end, no growth, newest first, one frame too far, wrong mask
    Mutant("segments.py", "return stop - 1", "return start", "test_segments.py"),
    Mutant("segments.py", "width = self.expand**k", "width = self.expand * k + 1", "test_segments.py"),
    Mutant("segments.py", "return tuple(reversed(bins))", "return tuple(bins)", "test_segments.py"),
    Mutant("segments.py", "length - 1 - self.distances", "length - self.distances", "test_segments.py"),
    Mutant("segments.py", "present = index >= 0", "present = index >= -1", "test_segments.py"),
    # motion: forgotten rescaling, forgotten nose, invalid points counted, off centre
    Mutant("motion/measures.py", "(REFERENCE_SIZE_PX / motion.size_px) ** 2", "1", "test_motion.py"),
    Mutant("motion/measures.py", " - motion.points[:, [NOSE_TIP]]\n", "\n", "test_motion.py"),
    Mutant("motion/measures.py", "** 2 * weight)", "** 2)", "test_motion.py"),
    Mutant("motion/sequence.py", "self.points / self.size_px - 0.5", "self.points / self.size_px", "test_motion.py"),
    # guidance: a sign, a branch that is not dropped, an interval off by one step
    Mutant("diffusion/options.py", "GuidanceTerm(self.reference_ratio - self.audio_ratio,", "GuidanceTerm(self.audio_ratio - self.reference_ratio,", "diffusion/test_guidance.py"),
    Mutant("diffusion/options.py", "if branch.coefficient)", ")", "diffusion/test_guidance.py"),
    Mutant("diffusion/options.py", "GuidanceTerm(1.0 - self.reference_ratio, False, False)", "GuidanceTerm(1.0 - self.reference_ratio, False, True)", "diffusion/test_guidance.py"),
    # noise: swapped shares
    Mutant("diffusion/objective.py", "return signal * latents + rest * noise", "return rest * latents + signal * noise", "diffusion/test_objective.py"),
    # rollout: history cut at the wrong end, the same noise in every clip, past as if full
    Mutant("diffusion/objective.py", "signal * noisy - rest * prediction", "signal * noisy + rest * prediction", "diffusion/test_objective.py"),
    Mutant("data/store/windows.py", "window.start - 1 - distances", "window.start - distances", "data/store/test_windows.py"),
    Mutant("data/store/windows.py", "distances < window.history", "distances <= window.history", "data/store/test_windows.py"),
    Mutant("data/store/windows.py", "window.indices(span, frames)", "window.indices(span, frames + 1)", "data/store/test_windows.py"),
    Mutant("motion/mirror.py", "motion.size_px - across", "across", "test_mirror.py"),
    Mutant("diffusion/rollout.py", "[:, -contract.layout.past_frames :]", "[:, : contract.layout.past_frames]", "diffusion/test_rollout.py"),
    Mutant("diffusion/rollout.py", 'generator(state.seed, "clip", state.clip)', 'generator(state.seed, "clip")', "diffusion/test_rollout.py"),
    Mutant("diffusion/rollout.py", "None if present.all() else present", "None", "diffusion/test_rollout.py"),
    Mutant("diffusion/past.py", "max(due.get(name, 0), clips)", "due.get(name, 0)", "diffusion/test_past.py"),
    Mutant("diffusion/past.py", "if name not in self._seen", "", "diffusion/test_past.py"),
    Mutant("diffusion/past.py", "if clips > 0", "", "diffusion/test_past.py"),
    Mutant("diffusion/options.py", "self.residual * clean + portrait[:, None]", "clean + portrait[:, None]", "diffusion/test_rollout.py"),
    Mutant("diffusion/options.py", "(latents - portrait[:, None]) / self.residual", "(latents - portrait[:, None]) * self.residual", "diffusion/test_rollout.py"),
    Mutant("diffusion/rollout.py", "seeing, hearing, keeping)", "hearing, seeing, keeping)", "diffusion/test_rollout.py"),
    Mutant("diffusion/sampler.py", "i / len(timesteps)", "(i + 1) / len(timesteps)", "diffusion/test_sampler.py"),
    # networks: masks dropped, branches swapped, a branch that is not silent at birth
    Mutant("nn/attention.py", "(own, 0), value=True", "(own, 0), value=False", "nn/test_attention.py"),
    Mutant("nn/attention.py", "nn.init.zeros_(self.to_out[0].weight)\n", "nn.init.ones_(self.to_out[0].weight)\n", "nn/test_attention.py"),
    Mutant("nn/temporal.py", "here = here + self.kinds[1]", "here = here + self.kinds[0]", "nn/test_temporal.py"),
    Mutant("nn/temporal.py", "self.positions[self.motion_slots : self.motion_slots + frames]", "self.positions[:frames]", "nn/test_temporal.py"),
    Mutant("models/dual.py", "present & reference[:, None]", "present", "models/test_dual.py::TestPresence"),
    Mutant("models/dual.py", "tokens * presence.audio[:, None, None, None].to(tokens)", "tokens", "models/test_dual.py::TestPresence"),
    Mutant("models/dual.py", "motion * presence.motion_latents[:, None, None].to(motion)", "motion", "models/test_dual.py::TestPresence"),
    Mutant("models/dual.py", "torch.where(live[:, None], present, True)", "present", "models/test_dual.py::TestPresence"),
    Mutant("models/dual.py", "nullcontext() if self.motion_gradient", "nullcontext() if not self.motion_gradient", "models/test_dual.py::test_the_past_carries_gradients_on_request_only"),
    Mutant("nn/attention.py", "mask[:1, ..., :length]", "mask[..., :length]", "nn/test_attention.py"),
    Mutant("nn/stages.py", "context.audio.expand(call.branches.audio, 1)", "context.audio.expand(call.branches.total, 1)", "models/test_dual_caches.py"),
    Mutant("models/unet.py", "seen * call.reference_present[:, None, None, None].to(seen)", "seen", "diffusion/test_rollout.py"),
    Mutant("models/unet.py", "torch.cat([x, skips.pop()], 1)", "torch.cat([skips.pop(), x], 1)", "models/test_weights.py"),
    # sound and movement: context not skipped, half the vectors lost, measures swapped
    Mutant("models/audio.py", "range(start - first, stop - first)", "range(stop - start)", "models/test_audio.py"),
    Mutant("models/audio.py", "+ torch.arange(rate)", "+ 0 * torch.arange(rate)", "models/test_audio.py"),
    Mutant("models/live_features.py", "self.pending >= self._clip_frames + self._lookahead", "self.pending >= self._clip_frames", "test_session.py"),
    Mutant("session.py", "self._loop.forget(self._clip_frames - heard.frames)", "pass", "test_session.py"),
    Mutant("models/audio_to_latents.py", "head, expression =", "expression, head =", "models/test_audio_to_latents.py"),
    # metrics: definitions that are almost those of the tables
    Mutant("metrics/frechet.py", "(len(rows) - 1) ** 0.5", "len(rows) ** 0.5", "metrics/test_frechet.py"),
    Mutant("metrics/frechet.py", "squares - 2 * common", "squares - common", "metrics/test_frechet.py"),
    Mutant("metrics/frechet.py", "/ (rows - 1)", "/ rows", "metrics/test_frechet.py"),
    Mutant("metrics/sync_scores.py", "reach - int(place)", "int(place) - reach", "metrics/test_sync_scores.py"),
    Mutant("metrics/sync_scores.py", "distances.median() - smallest", "distances.mean() - smallest", "metrics/test_sync_scores.py"),
    Mutant("metrics/syncnet.py", "torch.cat([energy[:, None], cepstrum[:, 1:]], 1)", "cepstrum", "metrics/test_syncnet.py"),
    Mutant("metrics/syncnet.py", "power = power / _POINTS", "power = power * 1", "metrics/test_syncnet.py"),
    Mutant("metrics/syncnet.py", ".to(weight).flip(-1)", ".to(weight)", "metrics/test_syncnet.py"),
    Mutant("metrics/syncnet.py", ") - FRAMES\n", ") - FRAMES + 1\n", "metrics/test_syncnet.py"),
    Mutant("metrics/video_features.py", "frames[-1:].expand", "frames[:1].expand", "metrics/test_video_features.py"),
    Mutant("metrics/video_features.py", "pictures - mean", "pictures", "metrics/test_video_features.py"),
    Mutant("metrics/video_features.py", ", antialias=True", "", "metrics/test_video_features.py"),
    Mutant("metrics/video_features.py", "pictures / 127.5 - 1", "pictures / 255", "metrics/test_video_features.py"),
    Mutant("metrics/video_features.py", "stride=(1, 2, 2), padding=3", "stride=2, padding=3", "metrics/test_video_features.py"),
    Mutant("metrics/smoothness.py", "frames[1:-1:2]", "frames[1::2][: len(kept) - 1].flip(0)", "metrics/test_smoothness.py"),
    Mutant("metrics/smoothness.py", "/ len(left_out) / 255", "/ len(frames) / 255", "metrics/test_smoothness.py"),
    Mutant("metrics/motion_variance.py", "** 2\n    figures", "\n    figures", "metrics/test_motion_variance.py"),
    Mutant("metrics/motion_variance.py", "len(motion) - WINDOW + 1, WINDOW)", "len(motion), WINDOW)", "metrics/test_motion_variance.py"),
    Mutant("metrics/drift.py", "variances.double().log()", "variances.double()", "metrics/test_drift.py"),
    Mutant("metrics/drift.py", "device=values.device) / int(FPS)", "device=values.device)", "metrics/test_drift.py"),
    Mutant("metrics/blinks.py", "value > REOPENED * usual", "value > CLOSED * usual * 2", "metrics/test_blinks.py"),
    Mutant("metrics/blinks.py", "/ (2 * (outer - inner)", "/ ((outer - inner)", "metrics/test_blinks.py"),
    Mutant("metrics/motion_variance.py", ".norm(dim=-1)", ".abs().sum(-1)", "metrics/test_motion_variance.py"),
    Mutant("metrics/beat.py", "beats(-speed.double())", "beats(speed.double())", "metrics/test_beat.py"),
    Mutant("metrics/beat.py", "(2 * _WIDTH_FRAMES**2)", "_WIDTH_FRAMES", "metrics/test_beat.py"),
    Mutant("evaluation/toon/conditions.py", "return mismatched / own - 1", "return mismatched / own", "evaluation/toon/test_conditions.py"),
)  # fmt: skip


def _run(copy: Path, tests: str) -> int:
    descriptor = os.open(copy / "report.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    places = [f"tests/{place}" for place in tests.split()]
    early = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that the libraries brought along
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", early, *places])


def passes(copy: Path, tests: str) -> bool:
    """Runs tests on the copy of the package, in a child that has the libraries at hand."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(_run(copy, tests))
        finally:  # never back into the parent's code
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 1):
        sys.exit(f"the tests {tests} did not run:\n{report(copy)}")
    return code == 0


def report(copy: Path) -> str:
    """What the last tests said."""
    return (copy / "report.txt").read_text()


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
                sys.exit(f"the tests {tests} fail without any fault:\n{report(copy)}")
        for mutant in chosen:
            survived = survives(mutant, copy)
            survivors += survived
            fate = "SURVIVES" if survived else "caught by"
            print(f"{mutant.file}: {mutant.wrong.strip()!r} {fate} {mutant.tests}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
