"""Prepares OpenVINO's models, once: its own format out of ONNX, and int8 fitted to texts to be scored."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

from pathlib import Path

import nncf
import numpy as np
import openvino
from tokenizers import Tokenizer


def main() -> None:
    folder = Path(JOB.options["folder"])
    model = openvino.convert_model(JOB.options["onnx"])
    openvino.save_model(model, str(folder / "fp32.xml"), compress_to_fp16=False)
    tokenizer = Tokenizer.from_file(str(Path(JOB.plain) / "tokenizer.json"))
    tokenizer.enable_truncation(JOB.input["length"])
    rows = [encoding.ids for encoding in tokenizer.encode_batch(JOB.input["texts"][: JOB.options["calibration"]])]
    given = [{"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)} for row in rows]
    int8 = nncf.quantize(model, nncf.Dataset(given), subset_size=len(given), model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(int8, str(folder / "int8.xml"), compress_to_fp16=False)
    harness.answer(JOB, ("openvino", "nncf"))


if __name__ == "__main__":
    main()
