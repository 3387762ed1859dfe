"""Blind studies: pages for raters, and their votes."""
