"""Sound, pictures, video and clip stores: what goes into the model and what comes out, as files."""
