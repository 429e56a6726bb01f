"""Operators that make, move, index and copy tensors."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op

SHAPE: Mapping[str, OperatorInfo] = {
    "ArgMax": op("index of the largest along an axis", gradient=False,
                 optional="axis keepdims select_last_index"),
    "ArgMin": op("index of the smallest along an axis", gradient=False,
                 optional="axis keepdims select_last_index"),
    "Compress": op("slices where a known condition holds", 2, optional="axis"),
    "Concat": op("join along an axis", (1, None), required="axis"),
    "Constant": op("a literal", 0, op_class=OpClass.HOST, gradient=False,
                   optional="value value_float value_floats value_int value_ints"),
    "ConstantOfShape": op("one value, repeated to a shape", optional="value", gradient=False),
    "CumProd": op("running product along an axis", 2, optional="exclusive reverse", since=26),
    "CumSum": op("running sum along an axis", 2, optional="exclusive reverse"),
    "DepthToSpace": op("channels to pixels", required="blocksize", optional="mode"),
    "Expand": op("broadcast to a shape", 2),
    "EyeLike": op("ones on a diagonal, in the input's shape", gradient=False, optional="dtype k"),
    "Flatten": op("reshape to two axes", optional="axis"),
    "Gather": op("slices by index (embedding lookup)", 2, optional="axis"),
    "GatherElements": op("elements by index along an axis", 2, optional="axis"),
    "GatherND": op("slices by index tuples", 2, optional="batch_dims"),
    "NonZero": op("indices of the elements that are not zero, if known before the run",
                  gradient=False, op_class=OpClass.HOST),
    "OneHot": op("indices to one-hot vectors", 3, optional="axis", gradient=False),
    "Pad": op("add or remove a border", (2, 4), optional="mode"),
    "Range": op("arithmetic sequence", 3, gradient=False, optional="stash_type",
                newer={"stash_type": 27}),
    "Reshape": op("same elements, other shape", 2, optional="allowzero"),
    "ReverseSequence": op("reverse the first elements of each sample", 2,
                          optional="batch_axis time_axis"),
    "ScatterElements": op("write elements by index along an axis", 3, optional="axis reduction"),
    "ScatterND": op("write slices by index tuples", 3, optional="reduction"),
    "Shape": op("extents as int64", optional="end start", op_class=OpClass.HOST, gradient=False),
    "Size": op("number of elements as int64", op_class=OpClass.HOST, gradient=False),
    "Slice": op("range with stride per axis", (3, 5)),
    "SpaceToDepth": op("pixels to channels", required="blocksize", optional="mode",
                       newer={"mode": 28}),
    "Split": op("parts along an axis", (1, 2), outputs=None, optional="axis num_outputs"),
    "Squeeze": op("drop axes of extent 1", (1, 2)),
    "TensorScatter": op("write a part of a cache", (2, 3), optional="axis mode", since=24),
    "TfIdfVectorizer": op("counts of n-grams of integers, weighted", gradient=False,
                          required="max_gram_length max_skip_count min_gram_length mode "
                          "ngram_counts ngram_indexes", optional="pool_int64s weights"),
    "Tile": op("repeat along each axis", 2),
    "TopK": op("k largest or smallest along an axis", 2, outputs=2,
               optional="axis largest sorted"),
    "Transpose": op("permute axes", optional="perm"),
    "Trilu": op("upper or lower triangle", (1, 2), optional="upper"),
    "Unsqueeze": op("insert axes of extent 1", 2),
}
