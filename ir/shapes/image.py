"""Types of operators on images and other grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isfinite, prod

from ir.graph import FLOATS, TensorType
from ir.shapes.call import NUMBERS, Call, Rule
from ir.shapes.limits import MAX_EXTENT


def _planes(call: Call, dtypes: frozenset[str] = FLOATS) -> TensorType:
    data = call.type(0, dtypes)
    if len(data.shape) < 3:
        raise call.fail(f"shape {data.shape} must have batch, channels and spatial axes")
    return data


def _per_axis(call: Call, name: str, axes: int, default: int, per: int = 1) -> tuple[int, ...]:
    """An attribute with `per` integers for each spatial axis."""
    values = call.integers(name) or (default,) * (axes * per)
    if len(values) != axes * per or min(values, default=default) < default:
        raise call.fail(f"{name} {values} does not fit {axes} spatial axes")
    return values


def _resize(call: Call) -> Sequence[TensorType]:
    data = call.type(0, NUMBERS)
    axes = _resized_axes(call, len(data.shape))
    shape = list(data.shape)
    if call.has(3) and call.type(3).elements:
        wanted = call.known(3)
        if len(wanted) != len(axes) or min(wanted, default=0) < 0:
            raise call.fail(f"sizes {wanted} do not fit {len(axes)} axes")
        for axis, extent in zip(axes, _kept_aspect(call, axes, wanted), strict=True):
            shape[axis] = extent
    else:
        scales = [float(item) for item in call.value(2).reshape(-1).tolist()]
        if len(scales) != len(axes) or not all(0 < s <= MAX_EXTENT for s in scales):
            raise call.fail(f"scales {scales} do not fit {len(axes)} axes or are not positive")
        for axis, scale in zip(axes, scales, strict=True):
            shape[axis] = floor(data.shape[axis] * scale)
    _resize_modes(call)
    return [TensorType(data.dtype, tuple(shape))]


def _resized_axes(call: Call, rank: int) -> tuple[int, ...]:
    named = call.integers("axes")
    if named is None:
        return tuple(range(rank))
    call.axes(named, rank)
    return tuple(axis % rank for axis in named)


def _kept_aspect(call: Call, axes: Sequence[int], wanted: Sequence[int]) -> list[int]:
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return list(wanted)
    if policy not in ("not_larger", "not_smaller"):
        raise call.fail(f"keep_aspect_ratio_policy '{policy}' is unknown")
    extents = [call.type(0).shape[axis] for axis in axes]
    if not all(extents):
        raise call.fail("an axis of extent 0 has no aspect ratio")
    choose = min if policy == "not_larger" else max
    scale = choose(size / extent for size, extent in zip(wanted, extents, strict=True))
    return [floor(scale * extent + 0.5) for extent in extents]


def _resize_modes(call: Call) -> None:
    known = {
        "mode": ("nearest", "linear", "cubic"),
        "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        "coordinate_transformation_mode": (
            "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
            "asymmetric", "tf_crop_and_resize"),
    }
    for name, values in known.items():
        if call.text(name, values[0]) not in values:
            raise call.fail(f"{name} must be one of {', '.join(values)}")
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        region = call.value(1).reshape(-1)
        axes = _resized_axes(call, len(call.type(0).shape))
        if len(region) != 2 * len(axes) or not all(isfinite(float(item)) for item in region):
            raise call.fail(f"the region needs {2 * len(axes)} finite numbers")


def _grid_sample(call: Call) -> Sequence[TensorType]:
    data, grid = _planes(call, NUMBERS), call.type(1, FLOATS)
    axes = len(data.shape) - 2
    if len(grid.shape) != axes + 2 or grid.shape[0] != data.shape[0] or grid.shape[-1] != axes:
        raise call.fail(f"grid {grid.shape} does not fit data {data.shape}")
    if call.text("mode", "linear") not in ("linear", "nearest", "cubic"):
        raise call.fail("mode must be linear, nearest or cubic")
    if call.text("padding_mode", "zeros") not in ("zeros", "border", "reflection"):
        raise call.fail("padding_mode must be zeros, border or reflection")
    if not all(data.shape[2:]) and grid.elements:
        raise call.fail(f"data {data.shape} has nothing to sample")
    return [TensorType(data.dtype, (*data.shape[:2], *grid.shape[1:-1]))]


def _affine_grid(call: Call) -> Sequence[TensorType]:
    theta, size = call.type(0, FLOATS), call.known(1)
    axes = len(size) - 2
    if axes not in (2, 3) or theta.shape != (size[0], axes, axes + 1) or min(size) < 1:
        raise call.fail(f"maps {theta.shape} do not fit the size {size}")
    return [TensorType(theta.dtype, (size[0], *size[2:], axes))]


def _roi_align(call: Call) -> Sequence[TensorType]:
    data, regions = _planes(call), call.type(1, FLOATS)
    samples = call.type(2, frozenset({"int64"}))
    call.same_dtype((0, 1))
    if len(data.shape) != 4 or len(regions.shape) != 2 or regions.shape[1] != 4:
        raise call.fail(f"data {data.shape} and regions {regions.shape} must be images and boxes")
    if samples.shape != regions.shape[:1]:
        raise call.fail(f"indices {samples.shape} do not fit regions {regions.shape}")
    height, width = call.integer("output_height", 1), call.integer("output_width", 1)
    if height < 1 or width < 1 or call.integer("sampling_ratio", 0) < 0:
        raise call.fail("output extents must be positive, the sampling ratio not negative")
    if call.text("mode", "avg") not in ("avg", "max"):
        raise call.fail("mode must be avg or max")
    if not all(data.shape[2:]):
        raise call.fail(f"data {data.shape} has nothing to sample")
    return [TensorType(data.dtype, (regions.shape[0], data.shape[1], height, width))]


def _max_unpool(call: Call) -> Sequence[TensorType]:
    data = _planes(call)
    axes = len(data.shape) - 2
    if call.type(1, frozenset({"int64"})).shape != data.shape:
        raise call.fail(f"indices {call.type(1).shape} do not fit data {data.shape}")
    kernel = call.integers("kernel_shape") or ()
    if len(kernel) != axes:
        raise call.fail(f"kernel_shape {kernel} does not fit {axes} spatial axes")
    strides, pads = _per_axis(call, "strides", axes, 1), _per_axis(call, "pads", axes, 0, 2)
    shape = data.shape[:2] + tuple(
        (extent - 1) * strides[axis] + kernel[axis] - pads[axis] - pads[axis + axes]
        for axis, extent in enumerate(data.shape[2:]))
    if call.has(2):
        shape = call.known(2)
    if len(shape) != len(data.shape) or shape[:2] != data.shape[:2] or min(shape) < 0:
        raise call.fail(f"output shape {shape} does not fit data {data.shape}")
    return [TensorType(data.dtype, shape)]


def _col2im(call: Call) -> Sequence[TensorType]:
    data = call.type(0, NUMBERS)
    image, block = call.known(1), call.known(2)
    axes = len(image)
    if len(data.shape) != 3 or len(block) != axes or not axes or min(*image, *block) < 1:
        raise call.fail(f"data {data.shape}, image {image} and block {block} do not fit")
    strides, pads = _per_axis(call, "strides", axes, 1), _per_axis(call, "pads", axes, 0, 2)
    dilations = _per_axis(call, "dilations", axes, 1)
    counts = [
        (image[a] + pads[a] + pads[a + axes] - dilations[a] * (block[a] - 1) - 1) // strides[a] + 1
        for a in range(axes)]
    if min(counts) < 1 or data.shape[2] != prod(counts) or data.shape[1] % prod(block):
        raise call.fail(f"columns {data.shape} are not those of blocks {block} in image {image}")
    return [TensorType(data.dtype, (data.shape[0], data.shape[1] // prod(block), *image))]


def _center_crop_pad(call: Call) -> Sequence[TensorType]:
    data, wanted = call.type(0), call.known(1)
    axes = _resized_axes(call, len(data.shape))
    if len(wanted) != len(axes) or min(wanted, default=0) < 0:
        raise call.fail(f"shape {wanted} does not fit {len(axes)} axes")
    shape = list(data.shape)
    for axis, extent in zip(axes, wanted, strict=True):
        shape[axis] = extent
    return [TensorType(data.dtype, tuple(shape))]


def _lrn(call: Call) -> Sequence[TensorType]:
    data = _planes(call)
    if call.integer("size") < 1:
        raise call.fail("size must be positive")
    return [data]


RULES: Mapping[str, Rule] = {
    "AffineGrid": _affine_grid, "CenterCropPad": _center_crop_pad, "Col2Im": _col2im,
    "GridSample": _grid_sample, "LRN": _lrn, "MaxUnpool": _max_unpool, "Resize": _resize,
    "RoiAlign": _roi_align,
}
