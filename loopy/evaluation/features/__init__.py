"""Videos to numbers: what each extractor sees in one pass over the frames."""
