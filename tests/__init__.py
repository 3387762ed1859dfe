"""Named, so that the `tests` which torch-fidelity installs does not hide it from new processes."""
