"""Matrix products, convolutions, pooling, normalisation, attention and losses."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op

_POOL = "auto_pad ceil_mode dilations pads strides"
_CONV = "auto_pad dilations group kernel_shape pads strides"
_LOSS = "ignore_index reduction"

NEURAL: Mapping[str, OperatorInfo] = {
    "Attention": op("scaled dot-product attention", (3, 7), outputs=4, op_class=OpClass.ATTENTION,
                    optional="is_causal kv_num_heads left_window_size q_num_heads "
                    "qk_matmul_output_mode right_window_size scale softcap softmax_precision",
                    inert=(6,),
                    newer={"input 6": 24, "left_window_size": 25, "right_window_size": 25}),
    "AveragePool": op("mean over windows", required="kernel_shape",
                      optional=_POOL + " count_include_pad"),
    "BatchNormalization": op(
        "normalise each channel; with `training_mode` by the batch's statistics while training, by "
        "the stored ones (inputs 3, 4) in evaluation and inference", 5, outputs=3,
        optional="epsilon momentum training_mode", inert=(3, 4), inert_outputs=(1, 2)),
    "Conv": op("convolution", (2, 3), op_class=OpClass.CONVOLUTION, optional=_CONV),
    "ConvTranspose": op("transposed convolution", (2, 3), op_class=OpClass.CONVOLUTION,
                        optional=_CONV + " output_padding output_shape"),
    "Det": op("determinant, batched"),
    "Einsum": op("sum of products by an equation", (1, None), required="equation",
                 op_class=OpClass.MATMUL),
    "Gemm": op("alpha * A @ B + beta * C", (2, 3), optional="alpha beta transA transB",
               op_class=OpClass.MATMUL),
    "GlobalAveragePool": op("mean over all pixels"),
    "GlobalMaxPool": op("largest over all pixels"),
    "GroupNormalization": op("normalise groups of channels", 3, required="num_groups",
                             optional="epsilon stash_type"),
    "Hardmax": op("1 at the first largest along an axis, else 0", optional="axis",
                  gradient=False),
    "InstanceNormalization": op("normalise each channel of each sample", 3, optional="epsilon"),
    "LayerNormalization": op("normalise the trailing axes", (2, 3), outputs=3,
                             optional="axis epsilon stash_type"),
    "LogSoftmax": op("log of softmax along an axis", optional="axis"),
    "LpNormalization": op("divide by the p-norm along an axis", optional="axis p"),
    "MatMul": op("matrix product, batched", 2, op_class=OpClass.MATMUL),
    "MaxPool": op("largest over windows", outputs=2, required="kernel_shape",
                  optional=_POOL + " storage_order"),
    "MeanVarianceNormalization": op("mean 0 and variance 1 over axes", optional="axes"),
    "NegativeLogLikelihoodLoss": op("mean of -input[target]", (2, 3), optional=_LOSS, inert=(2,)),
    "RMSNormalization": op("divide by the root mean square of the trailing axes", 2,
                           optional="axis epsilon stash_type"),
    "RotaryEmbedding": op("rotary position embedding", (3, 4),
                          optional="interleaved num_heads rotary_embedding_dim"),
    "Softmax": op("exponentials that sum to 1 along an axis", optional="axis"),
    "SoftmaxCrossEntropyLoss": op("cross entropy of scores and labels", (2, 3), outputs=2,
                                  optional=_LOSS, inert=(2,)),
}
