"""Scoring with OpenVINO: texts sorted by length, in batches, each padded to its longest."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import numpy as np
import openvino
from batches import tokenised_batches


def prepare(job: harness.Job) -> harness.Predictor:
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",  # one request at a time with all threads; batches are made here
        "INFERENCE_NUM_THREADS": job.threads,
        "INFERENCE_PRECISION_HINT": "bf16" if job.options["precision"] == "bf16" else "f32",
    }
    compiled = core.compile_model(job.options["file"], "CPU", settings)
    request = compiled.create_infer_request()

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.array(next(iter(request.infer({"input_ids": ids, "attention_mask": mask}).values())))

    return tokenised_batches(job, forward)


if __name__ == "__main__":
    harness.score(JOB, prepare, ("openvino", "nncf", "tokenizers", "numpy"))
