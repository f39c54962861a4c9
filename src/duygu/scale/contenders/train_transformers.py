"""Training with transformers' `Trainer`: as the original work used it, or at its best.

At its best it draws its own batches, of documents of like length, from the whole corpus. Of these, steps are timed that
stand for the corpus just as the fixed steps of everybody else do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

LENGTHS: list[int] = JOB.input["lengths"]
BATCH: int = JOB.input["recipe"]["batch"]


class Clock(TrainerCallback):
    """Seconds from the end of one step to the end of the next, so that drawing and padding a batch count."""

    def __init__(self) -> None:
        self.ready = 0.0
        self.last = 0.0
        self.laps = harness.Laps()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.ready = self.last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.laps.seconds.append(now - self.last)
        self.last = now

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs and "loss" in logs:
            self.laps.losses.append(logs["loss"])


class Order(torch.utils.data.Sampler[int]):
    """Documents in the order of the steps."""

    def __init__(self, steps: Sequence[Sequence[int]]) -> None:
        self.numbers = [number for step in steps for number in step]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Measured(Trainer):
    """The Trainer itself, but for which of its batches are taken."""

    steps: list[list[int]]

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        if JOB.options["best"]:
            drawn = super()._get_train_sampler(train_dataset)
            assert drawn is not None
            self.steps = _chosen([int(number) for number in drawn])
        else:
            self.steps = [*JOB.input["warm"], *JOB.input["timed"]]
        return Order(self.steps)


def _chosen(drawn: Sequence[int]) -> list[list[int]]:
    """A warm step and as many timed ones as asked for, out of all batches of an epoch."""
    batches = [list(drawn[start : start + BATCH]) for start in range(0, len(drawn) - BATCH + 1, BATCH)]
    costs = [float(sum(LENGTHS[number] for number in batch)) for batch in batches]
    (warm,) = harness.representative(costs, 1)
    return [batches[pick] for pick in (warm, *harness.representative(costs, JOB.input["draws"]))]


def _dataset() -> list[dict[str, Any]]:
    """Documents as they are, or, as the original work had them, all padded to one length."""
    ids, labels = JOB.input["ids"], JOB.input["labels"]
    masks = [[1] * len(row) for row in ids]
    if not JOB.options["best"]:
        length = JOB.input["length"]
        ids, masks = harness.padded(ids, length, JOB.input["pad"]), harness.padded(masks, length, 0)
    return [
        {"input_ids": row, "attention_mask": mask, "labels": label}
        for row, mask, label in zip(ids, masks, labels, strict=True)
    ]


def _arguments(folder: str) -> TrainingArguments:
    """The recipe of the workload; at its best also what the documentation advises for speed on a CPU."""
    recipe = JOB.input["recipe"]
    best = {
        "train_sampling_strategy": "group_by_length",
        "bf16": JOB.options["precision"] == "bf16",
        "optim": "adamw_torch_fused",
        "torch_compile": JOB.options.get("compile", False),
    }
    return TrainingArguments(
        output_dir=folder, use_cpu=True, per_device_train_batch_size=BATCH, num_train_epochs=1,
        learning_rate=recipe["lr"], weight_decay=recipe["weight_decay"], adam_epsilon=recipe["eps"],
        max_grad_norm=recipe["clip"], seed=recipe["seed"], logging_strategy="steps", logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
        **(best if JOB.options["best"] else {}),
    )  # fmt: skip


def main() -> None:
    logging.disable_progress_bar()
    torch.set_num_threads(JOB.threads)
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(JOB.plain)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Measured(
            model=AutoModelForSequenceClassification.from_pretrained(JOB.model, dtype=torch.float32),
            args=_arguments(folder),
            train_dataset=_dataset(),  # pyright: ignore[reportArgumentType]
            data_collator=DataCollatorWithPadding(tokenizer) if JOB.options["best"] else None,
            callbacks=[clock],
        )
        trainer.train()

    def computed(step: Sequence[int]) -> int:
        return len(step) * (max(LENGTHS[n] for n in step) if JOB.options["best"] else JOB.input["length"])

    warm = len(JOB.input["warm"])
    training = harness.Training(lambda _: 0.0, trainer.steps[:warm], trainer.steps[warm:], computed)
    packages = ("torch", "transformers", "accelerate", "numpy")
    harness.answer_training(JOB, training, clock.ready - JOB.began, clock.laps, packages)


if __name__ == "__main__":
    main()
