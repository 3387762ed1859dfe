"""A model to figures, each beside its ceiling and its floor."""
