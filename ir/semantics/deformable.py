"""Deformable convolution: Dai et al. 2017 (arXiv:1703.06211).

Masks: Zhu et al. 2018 (arXiv:1811.11168).
"""

from __future__ import annotations

from math import prod

import numpy as np

from ir.semantics.backend import Array, Backend
from ir.semantics.call import OpCall
from ir.semantics.registry import Runner, semantics
from ir.semantics.sampling import bilinear
from ir.semantics.taps import along
from ir.semantics.window import window


@semantics("DeformConv")
def _deform_conv(call: OpCall, backend: Backend) -> Runner:
    xp, (batch, channels) = backend.xp, call.shape(0)[:2]
    outputs, per_group, *kernel = call.shape(1)
    shape = window(call, kernel)
    groups, moved = call.integer("group", 1), call.integer("offset_group", 1)
    taps, points, dtype = prod(kernel), prod(shape.counts), call.host_dtype(0)
    # Where each tap of each window lies without an offset: [taps, *windows], rows and columns.
    rows, columns = (
        shape.dilations[a] * np.arange(kernel[a]).reshape((-1, 1, 1, 1) if a == 0 else (-1, 1, 1))
        + shape.strides[a] * along(a, 2, shape.counts[a]) - shape.begin[a] for a in range(2))
    rows, columns = (
        backend.constant(np.broadcast_to(part, (*kernel, *shape.counts)).reshape(
            1, 1, taps, points).astype(dtype)) for part in (rows, columns))
    image = backend.constant(along(0, 3, batch * moved))

    def run(
        x: Array, weight: Array, offset: Array, bias: Array | None = None,
        mask: Array | None = None,
    ) -> Array:
        offset = xp.reshape(offset, (batch, moved, taps, 2, points))
        y, z = (xp.reshape(base + offset[:, :, :, part, :], (batch * moved, taps, points))
                for part, base in enumerate((rows, columns)))
        # Each offset group is an image of its own.
        pictures = xp.permute_dims(
            xp.reshape(x, (batch * moved, channels // moved, *x.shape[2:])), (0, 2, 3, 1))
        sampled = None
        for factor, values in bilinear(backend, pictures, image, y, z, clamp=False):
            term = xp.expand_dims(factor, axis=-1) * values
            sampled = term if sampled is None else sampled + term
        if mask is not None:
            sampled = sampled * xp.reshape(mask, (batch * moved, taps, points, 1))
        columns_of = xp.reshape(
            xp.permute_dims(sampled, (0, 3, 1, 2)), (batch, groups, per_group * taps, points))
        result = xp.matmul(
            xp.reshape(weight, (groups, outputs // groups, per_group * taps)), columns_of)
        result = xp.reshape(result, (batch, outputs, *shape.counts))
        return result if bias is None else result + xp.reshape(bias, (-1, 1, 1))

    return run
