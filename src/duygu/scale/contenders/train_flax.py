"""Training with transformers' Flax BERT, as its example does: one padded length, one jitted step."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import jax
import numpy as np
import optax
from flax.training import train_state
from flax.traverse_util import flatten_dict, unflatten_dict
from transformers import FlaxBertForSequenceClassification


def prepare(job: harness.Job) -> harness.Training:
    recipe, length = job.input["recipe"], job.input["length"]
    ids = np.array(harness.padded(job.input["ids"], length, job.input["pad"]), np.int32)
    masks = np.array(harness.padded([[1] * len(row) for row in job.input["ids"]], length, 0), np.int32)
    labels = np.array(job.input["labels"], np.int32)
    model = FlaxBertForSequenceClassification.from_pretrained(job.model, from_pt=True)
    optimiser = optax.chain(
        optax.clip_by_global_norm(recipe["clip"]),
        optax.adamw(
            recipe["lr"], recipe["beta1"], recipe["beta2"], recipe["eps"],
            weight_decay=recipe["weight_decay"], mask=_decays,
        ),
    )  # fmt: skip
    state = train_state.TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimiser)
    key = jax.random.PRNGKey(recipe["seed"])
    step = jax.jit(_step, donate_argnums=(0,))

    def take(documents: Sequence[int]) -> float:
        nonlocal state, key
        rows = np.array(documents)
        state, loss, key = step(state, ids[rows], masks[rows], labels[rows], key)
        return float(loss)

    return harness.Training(take, job.input["warm"], job.input["timed"], lambda step: len(step) * length)


def _step(state: Any, ids: Any, masks: Any, labels: Any, key: Any) -> tuple[Any, Any, Any]:
    key, dropout = jax.random.split(key)

    def loss(params: Any) -> Any:
        logits = state.apply_fn(ids, masks, params=params, dropout_rng=dropout, train=True)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradient), value, key


def _decays(params: Any) -> Any:
    """Everything but biases and norms decays."""
    flat = flatten_dict(params)
    return unflatten_dict({path: path[-1] != "bias" and path[-2] != "LayerNorm" for path in flat})


if __name__ == "__main__":
    harness.train(JOB, prepare, ("transformers", "jax", "jaxlib", "flax", "optax", "numpy"))
