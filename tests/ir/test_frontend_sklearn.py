"""Pipelines of scikit-learn through skl2onnx: predictions as scikit-learn makes them.

Tolerance: float32, 1e-5; labels and the leaves that trees reach are exact.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from skl2onnx import to_onnx
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from homespun.errors import Code, HomespunError
from ir.check import check
from ir.frontends.onnx_file import read_onnx
from ir.graph import INFER
from ir.operators import OPERATORS

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(60, 4)).astype(np.float32)
CLASSES = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 0.5)
BINARY = (X[:, 0] > X[:, 3]).astype(int)
VALUES = (2 * X[:, 0] - X[:, 2] ** 2).astype(np.float32)


def predictions(estimator, rows):
    """What the imported estimator gives for the first rows."""
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    proto = to_onnx(estimator, X[:1], options=options)
    imported = read_onnx(proto.SerializeToString(), parameters=()).bind_shapes(
        {"X": rows.shape})
    check(imported.graph, INFER)
    assert {node.op_type for node in imported.graph.nodes} <= set(OPERATORS)
    return ReferenceEvaluator(imported.graph_bytes).run(None, {"X": rows})


@pytest.mark.parametrize("target", [CLASSES, BINARY], ids=["three classes", "two classes"])
@pytest.mark.parametrize("estimator", [
    make_pipeline(StandardScaler(), LogisticRegression()),
    MLPClassifier((5,), max_iter=30, random_state=0),
    RandomForestClassifier(4, max_depth=4, random_state=0),
    GradientBoostingClassifier(n_estimators=4, max_depth=3, random_state=0),
], ids=lambda e: type(e).__name__)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers(estimator, target):
    estimator.fit(X, target)
    labels, shares = predictions(estimator, X[:7])
    assert np.array_equal(labels, estimator.predict(X[:7]))
    np.testing.assert_allclose(shares, estimator.predict_proba(X[:7]), atol=1e-5)


@pytest.mark.parametrize("estimator", [
    make_pipeline(Normalizer(), Ridge()),
    make_pipeline(Normalizer("l1"), LinearRegression()),
    make_pipeline(SimpleImputer(), StandardScaler(), Binarizer(threshold=0.2), LinearRegression()),
    RandomForestRegressor(4, max_depth=5, random_state=0),
    GradientBoostingRegressor(n_estimators=5, max_depth=3, random_state=0),
    SVR(), SVR(kernel="poly", degree=2), SVR(kernel="linear"),
], ids=str)
def test_regressors(estimator):
    estimator.fit(X, VALUES)
    (values,) = predictions(estimator, X[:9])
    np.testing.assert_allclose(values[:, 0], estimator.predict(X[:9]), atol=2e-5)


def test_missing_values_are_filled_in():
    estimator = make_pipeline(SimpleImputer(), LinearRegression()).fit(X, VALUES)
    rows = X[:5].copy()
    rows[1, 2] = rows[3, 0] = np.nan
    (values,) = predictions(estimator, rows)
    np.testing.assert_allclose(values[:, 0], estimator.predict(rows), atol=1e-5)


def test_numbers_as_categories():
    columns = np.round(X[:, :2]).astype(np.int64)
    encoder = OneHotEncoder(sparse_output=False).fit(columns)
    proto = to_onnx(encoder, columns[:1])
    imported = read_onnx(proto.SerializeToString(), parameters=()).bind_shapes({"X": (6, 2)})
    (found,) = ReferenceEvaluator(imported.graph_bytes).run(None, {"X": columns[:6]})
    np.testing.assert_array_equal(found.reshape(6, -1), encoder.transform(columns[:6]))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("estimator", "target", "zipmap", "parts"), [
    (LogisticRegression(), np.array(["no", "yes"])[BINARY], False,
     ("LinearClassifier", "text", "integer labels")),
    (LogisticRegression(), BINARY, True, ("ZipMap", "'zipmap': False")),
    (SVC(), BINARY, False, ("SVMClassifier", "standard operators", "LinearClassifier")),
])
def test_what_a_tensor_program_cannot_have_is_refused(estimator, target, zipmap, parts):
    """Some converters warn about attributes of scikit-learn that go away."""
    estimator.fit(X, target)
    proto = to_onnx(estimator, X[:1], options={"zipmap": zipmap})
    with pytest.raises(HomespunError) as caught:
        read_onnx(proto.SerializeToString()).bind_shapes({"X": (4, 4)})
    assert caught.value.code == Code.UNSUPPORTED_OP
    for part in parts:
        assert part in caught.value.message
