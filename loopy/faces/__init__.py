"""Faces in pictures: where they are, their landmarks, and the square that the model takes."""
