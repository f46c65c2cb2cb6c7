"""Generated images, videos and labels for the demos and the tests."""
