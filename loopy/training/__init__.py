"""Training: stages, data and callbacks for lightning, which is used here and in the CLI only."""
