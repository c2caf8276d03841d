"""Annotations, frame sampling, transforms and the data sets built from them."""
