"""The test sets: what lies where, which videos are drawn, and their making."""
