"""What leaves the house: networks for use instead of training, as files, plain modules and ONNX graphs."""
