"""Sound, pictures and video of users: read on one clock, written whole or not at all."""
