"""Sound, pictures, video and shards: what goes into the model and what comes out, as files."""
