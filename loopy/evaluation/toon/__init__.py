"""The toon benchmark: synthetic talkers, whose truth is known."""
