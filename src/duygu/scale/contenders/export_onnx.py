"""Prepares ONNX Runtime's models, once: export through torch.onnx, fusion as for BERT, dynamic int8."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import harness

JOB = harness.read_job()  # limits threads, so it comes first

from pathlib import Path

import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import AutoModelForSequenceClassification


def main() -> None:
    folder = Path(JOB.options["folder"])
    exported, fused, int8 = (folder / name for name in ("exported.onnx", "fp32.onnx", "int8.onnx"))
    model = AutoModelForSequenceClassification.from_pretrained(
        JOB.model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), str(exported), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
    )  # fmt: skip
    shape = JOB.input["shape"]
    optimised = optimize_model(
        str(exported), "bert", shape["heads"], shape["hidden"], optimization_options=FusionOptions("bert"), opt_level=1
    )
    fusions = optimised.get_fused_operator_statistics()
    optimised.save_model_to_file(str(fused))
    settings = {"DefaultTensorType": TensorProto.FLOAT}  # of fused operators, whose types onnx cannot infer
    quantize_dynamic(str(fused), str(int8), weight_type=QuantType.QInt8, per_channel=True, extra_options=settings)
    harness.answer(JOB, ("torch", "transformers", "onnx", "onnxruntime"), fusions=fusions)


if __name__ == "__main__":
    main()
