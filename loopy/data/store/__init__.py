"""The shot store: shots in a folder or a bucket, whose rows can be read and checked alone."""
