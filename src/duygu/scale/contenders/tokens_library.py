"""Raw texts to token ids with the tokenizers library alone: whole texts, nothing cleaned, nothing cut."""

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

from pathlib import Path

from tokenizers import Tokenizer


def prepare(job: harness.Job) -> harness.Counter:
    tokenizer = Tokenizer.from_file(str(Path(job.plain) / "tokenizer.json"))
    encode = tokenizer.encode_batch_fast if job.options["fast"] else tokenizer.encode_batch
    size = job.options["chunk"]

    def count(texts: list[str]) -> int:
        starts = range(0, len(texts), size or len(texts))
        return sum(len(row.ids) for start in starts for row in encode(texts[start : start + (size or len(texts))]))

    return count


if __name__ == "__main__":
    harness.tokenise(JOB, prepare, ("tokenizers",))
