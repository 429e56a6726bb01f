"""Operators that carry a state along a sequence."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op

_CELL = "activation_alpha activation_beta activations clip direction hidden_size layout"

RECURRENT: Mapping[str, OperatorInfo] = {
    "CausalConvWithState": op("convolution of each channel with its past", (2, 4), outputs=2,
                              optional="activation", since=27),
    "GRU": op("gated recurrent units", (3, 6), outputs=2, op_class=OpClass.MATMUL,
              optional=f"{_CELL} linear_before_reset"),
    "LSTM": op("long short-term memory", (3, 8), outputs=3, op_class=OpClass.MATMUL,
               optional=f"{_CELL} input_forget"),
    "LinearAttention": op("attention by a state that each token updates", (3, 6), outputs=2,
                          required="kv_num_heads q_num_heads",
                          optional="chunk_size scale update_rule", since=27),
    "RNN": op("simple recurrent units", (3, 6), outputs=2, op_class=OpClass.MATMUL,
              optional=_CELL),
}
