"""Variants of a recipe, side by side."""
