"""How a front end refuses a node: which one, where it comes from, and the nearest supported way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

import onnx

from homespun.errors import Code, HomespunError

STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Key of a node's metadata under which PyTorch's exporter notes the user's lines."""

_LIBRARIES = frozenset({"site-packages", "dist-packages"})

_MASK = "select with a mask (Where, Mul) so that the shape does not depend on data"
_SEQUENCES = "stack the tensors into one with Concat, and index it with Gather"
_STRINGS = "turn text into numbers before you submit, and export with integer labels"

ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("NonZero", "Compress", "Unique", "NonMaxSuppression"), _MASK),
    **dict.fromkeys(("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
                     "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
                     "ConcatFromSequence"), _SEQUENCES),
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"),
                    "export a model whose inputs are always there"),
    **dict.fromkeys(("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch",
                     "TfIdfVectorizer", "CategoryMapper", "LabelEncoder", "DictVectorizer"),
                    _STRINGS),
    "ImageDecoder": "decode images before you submit and give the pixels as a column",
    "MaxRoiPool": "use RoiAlign with mode max",
    "ZipMap": "export with `options={'zipmap': False}`",
}
"""Operator -> the nearest way that is supported."""

DOMAIN_ADVICE: Mapping[str, str] = {
    "com.microsoft": "export without ONNX Runtime's optimiser, whose operators are its own",
    "ai.onnx.ml": "convert the estimator that it belongs to with standard operators",
    "ai.onnx.preview.training": "leave the optimiser out: the job has its own",
    "pkg.onnxscript.torch_lib": "export with the function bodies included",
}
"""Domain -> the nearest way that is supported."""


def title(node: onnx.NodeProto, prefix: str = "") -> str:
    """How messages call a node: name, operator, and the user's line where the exporter noted it."""
    name = f"{prefix}{node.name or node.op_type}"[:200]
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"Node {name!r} ({domain[:80]}{node.op_type[:80]}){source_line(trace_of(node))}"


def trace_of(node: onnx.NodeProto) -> str:
    """The stack trace in a node's metadata, or nothing."""
    return next((entry.value for entry in node.metadata_props if entry.key == STACK_TRACE), "")


def source_line(stack_trace: str) -> str:
    """The innermost line of the user's own files, such as ` at model.py, line 12`."""
    own = [
        (path, line) for path, line in re.findall(r'File "([^"]+)", line (\d+)', stack_trace)
        if not _LIBRARIES.intersection(PurePath(path).parts)
    ]
    return f" at {PurePath(own[-1][0]).name}, line {own[-1][1]}" if own else ""


def advice(node: onnx.NodeProto) -> str:
    """The nearest supported way, as the end of a sentence; empty where we know none."""
    known = DOMAIN_ADVICE.get(node.domain, "") if node.domain not in ("", "ai.onnx") else ""
    return ADVICE.get(node.op_type, known)


def refuse(
    node: onnx.NodeProto, reason: str, *, prefix: str = "", code: Code = Code.UNSUPPORTED_OP,
    instead: str = "",
) -> HomespunError:
    """The error for a node that cannot be imported.

    Args:
        node: which one.
        reason: what is wrong with it, as the end of the sentence that its title begins.
        prefix: of the scope it is in.
        code: of the error.
        instead: the nearest supported way; empty: what `advice` knows.
    """
    way = instead or advice(node)
    hint = f" Instead, {way}." if way else ""
    return HomespunError(
        code, f"{title(node, prefix)} {reason}.{hint}", node=f"{prefix}{node.name}",
        op_type=node.op_type)
