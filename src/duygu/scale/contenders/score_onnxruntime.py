"""Scoring with ONNX Runtime: texts sorted by length, in batches, each padded to its longest."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import numpy as np
import onnxruntime
from batches import tokenised_batches


def prepare(job: harness.Job) -> harness.Predictor:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = job.threads
    settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(job.options["file"], settings, providers=["CPUExecutionProvider"])

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    return tokenised_batches(job, forward)


if __name__ == "__main__":
    harness.score(JOB, prepare, ("onnxruntime", "tokenizers", "numpy"))
