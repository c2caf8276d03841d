"""Decoding, writing and storing video: files to frames, frames and flow on disk."""
