"""Prepare networks for deployment: fold norms into convolutions, write ONNX files."""
