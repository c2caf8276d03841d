"""Videos of any length, and sources that never end: sliding windows over a stream of frames."""
