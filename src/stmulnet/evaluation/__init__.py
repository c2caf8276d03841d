"""Test protocol, metrics and reports over tensors and callables."""
