"""Published figures of the AW-convolution paper."""
