"""Sound, pictures, video and shot stores: what goes into the model and what comes out, as files."""
