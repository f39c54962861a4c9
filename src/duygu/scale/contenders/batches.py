"""Raw texts to probabilities for the runtimes that bring no tokenizing of their own: the best order, least padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
from tokenizers import Tokenizer

Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids and mask, (D, T) int64, to logits (D, labels)


def tokenised_batches(job: harness.Job, forward: Forward) -> harness.Predictor:
    """A predictor around ``forward``: tokenise all at once, longest texts first, each batch padded to its longest."""
    tokenizer = Tokenizer.from_file(str(Path(job.plain) / "tokenizer.json"))
    tokenizer.enable_truncation(job.input["length"])
    pad, size = job.input["pad"], job.options["batch"]

    def predict(texts: list[str]) -> list[list[float]]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        rows: list[list[float]] = [[] for _ in texts]
        for numbers in harness.by_length([len(row) for row in ids], size):
            longest = len(ids[numbers[0]])
            chosen = [ids[number] for number in numbers]
            masks = harness.padded([[1] * len(row) for row in chosen], longest, 0)
            logits = forward(np.array(harness.padded(chosen, longest, pad), np.int64), np.array(masks, np.int64))
            for number, row in zip(numbers, _softmax(logits), strict=True):
                rows[number] = row.tolist()
        return rows

    return predict


def _softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
