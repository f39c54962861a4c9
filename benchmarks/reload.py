"""Do transformers' own classes give a run's predictions from the run's folder alone?

    python benchmarks/reload.py RUN DATA

Loads RUN/model with AutoModelForSequenceClassification and AutoTokenizer, answers every document of predictions.csv
that is within the length limit, and prints the largest difference of a probability. Longer documents are left out: the
tokenizer of the folder keeps their head only, where duygu keeps head and tail.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from duygu.data.corpus import read_corpus


def compare(run: Path, data: str) -> dict[str, object]:
    """The largest difference between transformers' probabilities and those of predictions.csv, in fp32."""
    corpus = read_corpus(data)
    texts = dict(zip(corpus.ids, corpus.texts, strict=True))
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model", dtype=torch.float32).eval()
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    largest, compared, longer = 0.0, 0, 0
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            inputs = tokenizer(texts[row["id"]], return_tensors="pt")
            if inputs["input_ids"].shape[1] > tokenizer.model_max_length:
                longer += 1
                continue
            with torch.inference_mode():
                found = torch.softmax(model(**inputs).logits.double(), dim=-1)[0]
            expected = torch.tensor([float(row[f"p({name})"]) for name in names], dtype=torch.float64)
            largest = max(largest, float((found - expected).abs().max()))
            compared += 1
    return {"run": str(run), "documents": compared, "longer": longer, "largest_difference": largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    given = parser.parse_args()
    print(json.dumps(compare(given.run, given.data)))


if __name__ == "__main__":
    main()
