"""Raw videos to what training reads: scenes, crops, landmarks, measures and filters."""
