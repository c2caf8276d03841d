"""Annotations, frame sampling, transforms and the data sets built from them."""

from stmulnet.datasets import sampling as sampling
