"""Raw texts to token ids with duygu's tokenizer: cleaned, framed, long ones cut to head and tail, in one flat array."""

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

from pathlib import Path

from duygu.data.tokens import TextTokenizer


def prepare(job: harness.Job) -> harness.Counter:
    tokenizer = TextTokenizer.from_folder(Path(job.model))
    length, share = job.input["length"], job.input["head_share"]
    return lambda texts: len(tokenizer.encode(texts, length, share).ids)


if __name__ == "__main__":
    harness.tokenise(JOB, prepare, ("duygu", "tokenizers", "numpy"))
