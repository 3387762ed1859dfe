"""Distillation: a model of few steps learns what a teacher makes in many."""
