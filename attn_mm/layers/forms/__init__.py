"""The layers' exact results in less time: other orders of the same sums, and Triton kernels."""
