"""Fitting a network. The only package that imports Lightning."""
