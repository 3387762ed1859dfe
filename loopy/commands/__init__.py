"""What each verb of the command line runs, one file a verb."""

from loopy.installation import check_torchaudio

# Before any verb imports diffusers, whose own error would name neither torchaudio nor the cure.
check_torchaudio()
