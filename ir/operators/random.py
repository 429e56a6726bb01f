"""Operators that draw. All draws are keyed by (seed, step, microbatch, node): `ir.semantics.draws`.

The `seed` attribute is taken and ignored: the job's seed decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OperatorInfo, op

RANDOM: Mapping[str, OperatorInfo] = {
    "Bernoulli": op("1 with the given probability, else 0", gradient=False, random=True,
                    optional="dtype seed"),
    "Multinomial": op("classes drawn by unnormalised log probabilities", gradient=False,
                      random=True, optional="dtype sample_size seed"),
    "RandomNormal": op("normal numbers", 0, gradient=False, random=True, required="shape",
                       optional="dtype mean scale seed"),
    "RandomNormalLike": op("normal numbers in the input's shape", gradient=False, random=True,
                           optional="dtype mean scale seed"),
    "RandomUniform": op("uniform numbers", 0, gradient=False, random=True, required="shape",
                        optional="dtype high low seed"),
    "RandomUniformLike": op("uniform numbers in the input's shape", gradient=False, random=True,
                            optional="dtype high low seed"),
}
