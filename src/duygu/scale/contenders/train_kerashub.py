"""Training with KerasHub's BERT classifier through `fit`, on JAX or PyTorch; token ids padded to one length."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os
import time
from typing import Any

import harness

JOB = harness.read_job()  # limits threads, so it comes first
os.environ["KERAS_BACKEND"] = JOB.options["backend"]

import keras
import keras_hub
import numpy as np

LENGTH: int = JOB.input["length"]


class Clock(keras.callbacks.Callback):
    """Seconds from the end of one step to the end of the next; reading the loss waits for the step."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = 0.0
        self.last = 0.0
        self.laps = harness.Laps()

    def on_train_begin(self, logs: Any = None) -> None:
        self.ready = self.last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.laps.losses.append(float(logs["loss"]))
        now = time.perf_counter()
        self.laps.seconds.append(now - self.last)
        self.last = now


def _classifier() -> Any:
    """The classifier of this workload's shape; its weights are random, as speed asks for no others."""
    recipe, shape = JOB.input["recipe"], JOB.input["shape"]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=shape["vocabulary"], num_layers=shape["layers"], num_heads=shape["heads"],
        hidden_dim=shape["hidden"], intermediate_dim=shape["intermediate"], dropout=shape["dropout"],
        max_sequence_length=shape["positions"], num_segments=shape["segments"],
    )  # fmt: skip
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=None, dropout=shape["dropout"])
    optimiser = keras.optimizers.AdamW(
        recipe["lr"], weight_decay=recipe["weight_decay"], beta_1=recipe["beta1"], beta_2=recipe["beta2"],
        epsilon=recipe["eps"], global_clipnorm=recipe["clip"],
    )  # fmt: skip
    optimiser.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer=optimiser, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def _arrays(steps: list[list[int]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    numbers = [number for step in steps for number in step]
    rows = [JOB.input["ids"][number] for number in numbers]
    masks = [[1] * len(row) for row in rows]
    ids = np.array(harness.padded(rows, LENGTH, JOB.input["pad"]), np.int32)
    given = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.array(harness.padded(masks, LENGTH, 0), bool),
    }
    return given, np.array([JOB.input["labels"][number] for number in numbers], np.int32)


def main() -> None:
    if JOB.options["backend"] == "torch":
        import torch

        torch.set_num_threads(JOB.threads)
    keras.config.set_dtype_policy("mixed_bfloat16" if JOB.options["precision"] == "bf16" else "float32")
    keras.utils.set_random_seed(JOB.input["recipe"]["seed"])
    clock = Clock()
    warm, timed = JOB.input["warm"], JOB.input["timed"]
    texts, labels = _arrays([*warm, *timed])
    batch = JOB.input["recipe"]["batch"]
    _classifier().fit(texts, labels, batch_size=batch, shuffle=False, verbose=0, callbacks=[clock])
    training = harness.Training(lambda _: 0.0, warm, timed, lambda step: len(step) * LENGTH)
    backend = {"jax": ("jax", "jaxlib"), "torch": ("torch",)}[JOB.options["backend"]]
    packages = ("keras", "keras-hub", "numpy", *backend)
    harness.answer_training(JOB, training, clock.ready - JOB.began, clock.laps, packages)


if __name__ == "__main__":
    main()
