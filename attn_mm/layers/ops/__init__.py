"""What the layers share: dimensions, channels, precision, and whether a call is recorded or watched."""
