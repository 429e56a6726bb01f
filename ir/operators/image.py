"""Operators on images and other grids: resizing, sampling at computed places, windows."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op

IMAGE: Mapping[str, OperatorInfo] = {
    "AffineGrid": op("sampling grid of an affine map", 2, optional="align_corners"),
    "CenterCropPad": op("crop or pad around the centre", 2, optional="axes"),
    "Col2Im": op("sum of windows put back into an image", 3, optional="dilations pads strides"),
    "DeformConv": op("convolution at places that are moved by offsets", (3, 5),
                     op_class=OpClass.CONVOLUTION,
                     optional="dilations group kernel_shape offset_group pads strides"),
    "GlobalLpPool": op("p-norm over all pixels", optional="p"),
    "GridSample": op("interpolation at the places of a grid", 2,
                     optional="align_corners mode padding_mode"),
    "LRN": op("normalise by the squares of neighbouring channels", required="size",
              optional="alpha beta bias"),
    "LpPool": op("p-norm over windows", required="kernel_shape",
                 optional="auto_pad ceil_mode dilations p pads strides"),
    "MaxUnpool": op("values put back where a MaxPool found them", (2, 3), required="kernel_shape",
                    optional="pads strides"),
    "Resize": op("interpolation to other extents", (1, 4), inert=(1, 2),
                 optional="antialias axes coordinate_transformation_mode cubic_coeff_a "
                 "exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode"),
    "RoiAlign": op("means of interpolated places in regions", 3, inert=(1,),
                   optional="coordinate_transformation_mode mode output_height output_width "
                   "sampling_ratio spatial_scale"),
}
