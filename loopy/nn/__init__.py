"""Layers: attention, spatial transformer, temporal layers, and the stages made of them."""
