"""Operators between floats and the short numbers that stand for them."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op

_CONV = "auto_pad dilations group kernel_shape pads strides"

QUANTIZATION: Mapping[str, OperatorInfo] = {
    "ConvInteger": op("convolution of 8-bit integers", (2, 4), op_class=OpClass.CONVOLUTION,
                      optional=_CONV, gradient=False),
    "DequantizeLinear": op("(x - zero point) * scale", (2, 3), inert=(2,),
                           optional="axis block_size output_dtype"),
    "DynamicQuantizeLinear": op("8-bit integers with scale and zero point of their range",
                                outputs=3, gradient=False),
    "MatMulInteger": op("matrix product of 8-bit integers", (2, 4), op_class=OpClass.MATMUL,
                        gradient=False),
    "QLinearConv": op("convolution of quantised numbers", (8, 9), op_class=OpClass.CONVOLUTION,
                      optional=_CONV, gradient=False),
    "QLinearMatMul": op("matrix product of quantised numbers", 8, op_class=OpClass.MATMUL,
                        gradient=False),
    "QuantizeLinear": op("round(x / scale) + zero point, saturated", (2, 3), gradient=False,
                         optional="axis block_size output_dtype precision saturate"),
}
