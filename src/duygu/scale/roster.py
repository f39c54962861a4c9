"""Who is measured: duygu's engines and what a user would pick instead, each with its script and its environment.

A contender is data. Its name may stand for one script per task; ``--contenders`` chooses by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from duygu.errors import UserError
from duygu.scale.environments import ENVIRONMENTS, Environment
from duygu.scale.workloads import Part, Task

Precision = Literal["fp32", "bf16", "low", "int8"]  # low: bf16 where the processor is fast in it, else fp32


@dataclass(frozen=True, slots=True)
class Contender:
    """One tool, used in one way, on one task."""

    name: str
    title: str
    task: Task
    script: str  # without .py
    precision: Precision
    environment: str | None = None  # None: the interpreter that runs duygu, with the packages of ``needs``
    needs: tuple[str, ...] = ()  # packages of the environment that this script imports
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    export: str | None = None  # folder of files that its runtime needs, prepared once: see `exports`
    compiles: bool = False
    quick: bool = False
    default: bool = True  # whether it runs without being named
    expected: tuple[float, float] = (60.0, 20.0)  # seconds of one process: BERTurk's shape, MiniLM's

    @property
    def ours(self) -> bool:
        """Whether this is duygu."""
        return self.environment is None

    @property
    def place(self) -> Environment | None:
        """The environment's pins."""
        return None if self.environment is None else ENVIRONMENTS[self.environment]


def _duygu_train(name: str, title: str, engine: str, precision: Precision, quick: bool = False) -> Contender:
    options = {"engine": engine}
    return Contender(
        name, title, "train", "train_duygu", precision, None, (engine,), options, compiles=engine == "jax", quick=quick
    )


def _duygu_score(name: str, title: str, engine: str, precision: Precision, quick: bool = False) -> Contender:
    compiles = engine == "jax"
    options = {"engine": engine, "compiles": compiles}
    return Contender(
        name, title, "score", "score_duygu", precision, None, (engine,), options, compiles=compiles, quick=quick
    )


def _trainer(name: str, title: str, precision: Precision, default: bool = True, **options: object) -> Contender:
    quick = name == "trainer-best"
    return Contender(
        name, title, "train", "train_transformers", precision, "transformers",
        ("torch", "transformers", "accelerate"), options, quick=quick, default=default,
    )  # fmt: skip


def _pipeline(name: str, title: str, precision: Precision, batch: int, **options: object) -> Contender:
    return Contender(
        name, title, "score", "score_transformers", precision, "transformers", ("torch", "transformers"),
        {"batch": batch, **options}, quick=name == "pipeline-best",
    )  # fmt: skip


def _keras(name: str, title: str, backend: str, precision: Precision) -> Contender:
    options = {"backend": backend, "timed": 2}
    return Contender(
        name, title, "train", "train_kerashub", precision, "kerashub", (), options, compiles=backend == "jax"
    )


def _runtime(name: str, title: str, tool: str, precision: Precision, **options: object) -> Contender:
    return Contender(
        name, title, "score", f"score_{tool}", precision, tool, (), {"batch": 16, **options}, export=tool,
        quick=name == "openvino-int8",
    )  # fmt: skip


def _library(name: str, title: str, fast: bool) -> Contender:
    options = {"fast": fast, "chunk": 1024}
    return Contender(name, title, "tokens", "tokens_library", "fp32", None, ("tokenizers",), options, quick=fast)


ROSTER: tuple[Contender, ...] = (
    _duygu_train("duygu-torch", "duygu torch", "torch", "low", quick=True),
    _duygu_train("duygu-torch-fp32", "duygu torch", "torch", "fp32"),
    _duygu_train("duygu-jax", "duygu JAX", "jax", "low", quick=True),
    _duygu_train("duygu-jax-fp32", "duygu JAX", "jax", "fp32"),
    _trainer("trainer-best", "Trainer at its best", "low", best=True),
    _trainer("trainer-compiled", "Trainer at its best, compiled", "low", default=False, best=True, compile=True),
    _trainer("trainer-report", "Trainer as reported", "fp32", best=False, timed=2),
    Contender(
        "flax", "Flax, transformers 4.57", "train", "train_flax", "fp32", "flax", options={"timed": 2}, compiles=True
    ),
    _keras("kerashub-jax", "KerasHub on JAX", "jax", "fp32"),
    _keras("kerashub-torch", "KerasHub on torch", "torch", "low"),
    _duygu_score("duygu-torch", "duygu torch", "torch", "low", quick=True),
    _duygu_score("duygu-torch-fp32", "duygu torch", "torch", "fp32"),
    _duygu_score("duygu-jax", "duygu JAX", "jax", "low", quick=True),
    _duygu_score("duygu-jax-fp32", "duygu JAX", "jax", "fp32"),
    _pipeline("pipeline-single", "pipeline, one by one", "fp32", 1, sorted=False, share=0.25),
    _pipeline("pipeline-batched", "pipeline, 16 as they come", "fp32", 16, sorted=False, share=0.25),
    _pipeline("pipeline-sorted", "pipeline, sorted", "fp32", 16, sorted=True),
    _pipeline("pipeline-best", "pipeline, sorted", "low", 16, sorted=True),
    _runtime("onnxruntime-fp32", "ONNX Runtime", "onnxruntime", "fp32"),
    _runtime("onnxruntime-int8", "ONNX Runtime", "onnxruntime", "int8"),
    _runtime("openvino-fp32", "OpenVINO", "openvino", "fp32"),
    _runtime("openvino-bf16", "OpenVINO", "openvino", "low"),
    _runtime("openvino-int8", "OpenVINO", "openvino", "int8"),
    Contender("duygu", "duygu", "tokens", "tokens_duygu", "fp32", None, quick=True),
    _library("tokenizers", "tokenizers, encode_batch", False),
    _library("tokenizers-fast", "tokenizers, encode_batch_fast", True),
)


def chosen(names: Sequence[str], quick: bool) -> list[Contender]:
    """The contenders of these names; without names, those that run by default. Raises `UserError`."""
    known = list(dict.fromkeys(contender.name for contender in ROSTER))
    for name in names:
        if name not in known:
            raise UserError(f"there is no contender {name!r}", "--contenders", f"choose from: {','.join(known)}")
    return [c for c in ROSTER if (c.name in names if names else c.quick if quick else c.default)]


def entrants(contenders: Sequence[Contender], part: Part) -> list[Contender]:
    """Who takes part in a workload."""
    return [contender for contender in contenders if contender.task == part.task]


def arithmetic(contender: Contender, low: str) -> str:
    """The precision that it computes in on this machine."""
    return low if contender.precision == "low" else contender.precision


def full_title(contender: Contender, low: str) -> str:
    """Its title with the precision, where that is a matter of choice."""
    return contender.title if contender.task == "tokens" else f"{contender.title}, {arithmetic(contender, low)}"
