"""ONNX graphs: import, check, shapes, cost, cut."""
