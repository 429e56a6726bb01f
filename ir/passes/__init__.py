"""Graph rewrites over onnx_ir, one per file."""
