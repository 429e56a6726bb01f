"""A JAX function, submitted as a user would: trained over two peers, and run."""

import numpy as np
import pytest

import homespun
from homespun.local_network import LocalNetwork

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROWS, BATCH = 64, 16


def predict(params, batch):
    import jax.numpy as jnp

    return jnp.tanh(batch["x"] @ params["first"]) @ params["last"]


@pytest.mark.filterwarnings("default")
def test_a_jax_function_trains_and_predicts(tmp_path):
    from ir.frontends.jax_function import import_function

    draws = np.random.default_rng(0)
    x = draws.standard_normal((ROWS, 4)).astype(np.float32)
    y = (x[:, :1] - x[:, 1:2]).astype(np.float32)
    params = {"first": draws.standard_normal((4, 8)).astype(np.float32) * 0.3,
              "last": draws.standard_normal((8, 1)).astype(np.float32) * 0.3}
    sample = {"x": x[:BATCH // 2]}
    imported = import_function(
        predict, params, {**sample, "target": y[:BATCH // 2]}, loss="mse")
    with LocalNetwork(tmp_path, peers=2) as network, network.client() as client:
        job = client.submit_graph(
            imported, data={"x": x, "target": y}, optimizer=homespun.Adam(lr=0.03), steps=80,
            batch_size=BATCH, peers=2)
        assert job.wait().state == "succeeded"
        losses = [metric.loss for metric in job.curves().steps]
        assert losses[-1] < 0.1 * losses[0]
        with pytest.raises(homespun.HomespunError, match="imported already"):
            client.submit_graph(
                imported, data={"x": x, "target": y}, optimizer=homespun.SGD(lr=0.1), steps=1,
                batch_size=BATCH, loss="mse")
