"""Optical flow: TV-L1 on the CPU, and its 8-bit form."""

from stmulnet.flow import quantize as quantize
