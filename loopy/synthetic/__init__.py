"""The synthetic talker: a toon face and a voice of which every frame's truth is known."""
