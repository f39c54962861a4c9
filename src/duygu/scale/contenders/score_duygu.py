"""Scoring with duygu's classifier, in one of its engines."""

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

from duygu.use.classifier import Classifier

PACKAGES = {"torch": ("torch",), "jax": ("jax", "jaxlib")}


def prepare(job: harness.Job) -> harness.Predictor:
    classifier = Classifier.open(
        job.model, job.options["engine"], precision=job.options["precision"], threads=job.threads
    )
    return lambda texts: classifier.predict(texts).probabilities.tolist()


if __name__ == "__main__":
    harness.score(JOB, prepare, ("duygu", "numpy", "tokenizers", *PACKAGES[JOB.options["engine"]]))
