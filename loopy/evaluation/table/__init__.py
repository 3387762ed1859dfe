"""Measured videos to figures with intervals, tables and pages."""
