"""Networks made ready for deployment: norms folded into convolutions, ONNX files."""
