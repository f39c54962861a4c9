"""Scoring with transformers' text-classification pipeline: one by one, batched as texts come, or sorted."""

from __future__ import annotations

from typing import Any

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils import logging


def prepare(job: harness.Job) -> harness.Predictor:
    logging.disable_progress_bar()
    torch.set_num_threads(job.threads)
    dtype = torch.bfloat16 if job.options["precision"] == "bf16" else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(job.model, dtype=dtype).eval()
    classify: Any = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(job.plain))
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    size, length = job.options["batch"], job.input["length"]

    def predict(texts: list[str]) -> list[list[float]]:
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n])) if job.options["sorted"] else range(len(texts))
        found = classify([texts[n] for n in order], top_k=None, batch_size=size, truncation=True, max_length=length)
        rows: list[list[float]] = [[] for _ in texts]
        for number, answers in zip(order, found, strict=True):
            scores = {answer["label"]: answer["score"] for answer in answers}
            rows[number] = [scores[name] for name in names]
        return rows

    return predict


if __name__ == "__main__":
    harness.score(JOB, prepare, ("torch", "transformers", "tokenizers", "numpy"))
