"""Faster exact implementations of the layers: reordered sums and Triton kernels."""
