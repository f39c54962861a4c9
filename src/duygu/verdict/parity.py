"""Proof, on the user's own model, that the two engines compute the same.

Each engine runs in a process of its own from the same start, in fp32: logits without dropout, gradients and a short
training with dropout on. The parent, which imports no framework, compares. Where transformers is installed it is the
third party: it loads the same start from a folder and its logits are compared too. Of weights in 4 bits that folder
holds the numbers that they stand for; adapters add nothing before the first step, so their logits are the model's.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import multiprocessing.connection
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.tokens import Encoded
from duygu.data.windows import Windows
from duygu.engines import ENGINES, Placement, StepKey, open_engine
from duygu.errors import DuyguError
from duygu.models.adapters import merged, require_adaptable, with_adapters
from duygu.models.folder import open_classifier, open_model, write_model
from duygu.models.presets import recipe_for
from duygu.recipe import Recipe
from duygu.training.out_of_memory import Watched, killed
from duygu.training.plan import Batch, IntArray, assemble, evaluation_batches, fit_shapes, make_plan
from duygu.training.scoring import score

LOGITS = 2e-5  # largest absolute difference
COSINE = 0.999999  # of the whole gradient, at least
NORM = 1e-5  # |ratio of the gradients' norms - 1|
TENSOR = 1e-3  # relative error of one tensor's gradient
LOSS = 1e-4  # of each step's loss, relative to max(loss, LOSS_FLOOR)
LOSS_FLOOR = 0.1
SMALLEST_SHARE = 1e-6  # a tensor with less than this share of the gradient's norm holds rounding noise only
GRADIENT_DOCUMENTS = 16

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Request:
    """What every engine measures; ``model`` is a finished model folder, the common start."""

    model: str
    ids: tuple[IntArray, ...]  # tokens of each document
    labels: IntArray
    recipe: Recipe
    steps: int
    threads: int = 0
    windows: Windows | None = None  # how documents that are too long are divided
    reference: str = ""  # the folder that transformers loads, where it is another than ``model``


@dataclass(frozen=True, slots=True)
class Measurement:
    """One party's numbers; transformers measures logits only."""

    party: str
    logits: FloatArray  # (documents, labels), dropout off
    gradients: Mapping[str, FloatArray]
    losses: FloatArray  # (steps,), dropout on


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of two parties: the worst value found, the limit, and whether it holds."""

    name: str
    parties: str
    value: float
    limit: float
    passed: bool
    where: str = ""


@dataclass(frozen=True, slots=True)
class ParityResult:
    """Every check; ``notes`` says what could not be checked."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    documents: int
    steps: int

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """Plain values for ``--json``."""
        return {"schema": "duygu.parity/1", "passed": self.passed, **asdict(self)}

    def table(self) -> str:
        """One line a check: what was compared, the worst value, its limit, and where a failure lies."""
        lines = [f"{self.documents} documents, {self.steps} steps with dropout on, fp32", ""]
        for check in self.checks:
            limit = f"{'>=' if check.name.endswith('cosine') else '<='} {check.limit:<8g}"
            value = f"{check.value:.7f}" if check.name.endswith("cosine") else f"{check.value:.1e}"
            where = f"  {check.where}" if check.where and not check.passed else ""
            verdict = "ok" if check.passed else "DIFFERS"
            lines.append(f"{check.name:<34}{check.parties:<22}{value:>10}  {limit:<12}{verdict}{where}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def parity(
    model: str,
    data: str,
    *,
    steps: int = 60,
    documents: int = 64,
    seed: int = 13,
    settings: Mapping[str, str] | None = None,
    threads: int = 0,
    say: Callable[[str], None] = lambda _: None,
    format: DataFormat = BY_DEFAULT,
) -> ParityResult:
    """Compare the engines on ``model`` (a folder or preset) with documents of ``data``.

    Raises `UserError` for a model or data that cannot be read and `DuyguError` when an engine fails.
    """
    with tempfile.TemporaryDirectory(prefix="duygu-parity-") as folder:
        corpus = read_corpus(data, **format.as_dict())
        request = _prepare(model, corpus, Path(folder), steps, documents, seed, settings or {}, threads)
        parties = [*ENGINES, *(["transformers"] if importlib.util.find_spec("transformers") else [])]
        measured: list[Measurement] = []
        for party in parties:
            say(f"{party}: logits, gradients, {steps} steps" if party in ENGINES else f"{party}: logits")
            measured.append(_in_own_process(party, request))
    notes = () if len(measured) > 2 else ("transformers is not installed, so it was not compared",)
    return judge(measured, notes)


def measure(party: str, request: Request) -> Measurement:
    """One party's numbers, in this process."""
    if party == "transformers":
        return Measurement(party, _reference_logits(request), {}, np.zeros(0, np.float32))
    engine = Watched(open_engine(party, request.threads))
    model = open_classifier(request.model)
    placement = Placement("fp32", request.threads)
    start = with_adapters(model.tensors, model.spec, request.recipe)
    state = engine.start(model.spec, start, request.recipe, placement)
    encoded = _encoded(request)
    every = np.arange(len(request.ids), dtype=np.int32)
    batches = evaluation_batches(every, encoded.lengths, engine.static_shapes, windows=encoded.windows)
    _, logits = score(engine, state, encoded, request.labels, batches)
    first = _batch(request, encoded, every[:GRADIENT_DOCUMENTS], engine.static_shapes)
    gradients = dict(engine.gradients(state, first, StepKey(request.recipe.seed, 1)))
    plan = make_plan(every, encoded.lengths, request.recipe, engine.static_shapes, encoded.windows)
    losses: list[float] = []
    for step in plan.steps[: request.steps]:
        weight = float(len(step.documents))
        laid = [
            assemble(encoded.take(part), part, request.labels[part], shape, normaliser=weight)
            for part, shape in zip(step.microbatches, step.shapes, strict=True)
        ]
        state, result = engine.step(state, laid, step.lr, StepKey(request.recipe.seed, step.number))
        losses.append(result.loss)
    return Measurement(party, logits, gradients, np.array(losses, np.float32))


def judge(measured: Sequence[Measurement], notes: tuple[str, ...] = ()) -> ParityResult:
    """Compare the first two, the engines, in everything and any further party in its logits with both."""
    one, other, *references = measured
    checks = [_logits(one, other), *_gradients(one, other), _losses(one, other)]
    checks += [_logits(party, reference) for reference in references for party in (one, other)]
    return ParityResult(tuple(checks), notes, len(one.logits), len(one.losses))


def _logits(one: Measurement, other: Measurement) -> Check:
    difference = np.abs(one.logits - other.logits).max(axis=1)
    return _below("logits, largest difference", one, other, difference.max(), LOGITS, f"document {difference.argmax()}")


def _gradients(one: Measurement, other: Measurement) -> list[Check]:
    """Direction and length of the whole gradient, then the worst single tensor."""
    names = list(one.gradients)
    a = np.concatenate([one.gradients[name].ravel() for name in names]).astype(np.float64)
    b = np.concatenate([other.gradients[name].ravel() for name in names]).astype(np.float64)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = float(a @ b) / (norm_a * norm_b)
    errors = {name: _relative(one.gradients[name], other.gradients[name], norm_a) for name in names}
    # The keys' bias moves every score of a softmax row alike, so its gradient is 0 up to rounding.
    errors = {name: error for name, error in errors.items() if not name.endswith(("key.bias", "k_lin.bias"))}
    worst = max(errors, key=lambda name: errors[name])
    parties = f"{one.party} / {other.party}"
    return [
        Check("gradient, cosine", parties, cosine, COSINE, cosine >= COSINE),
        _below("gradient, norm ratio - 1", one, other, abs(norm_a / norm_b - 1), NORM),
        _below("gradient, worst tensor, relative", one, other, errors[worst], TENSOR, worst),
    ]


def _losses(one: Measurement, other: Measurement) -> Check:
    scale = np.maximum(one.losses, LOSS_FLOOR)
    difference = np.abs(one.losses - other.losses) / scale
    where = f"step {int(difference.argmax()) + 1} of {len(difference)}"
    return _below("loss with dropout on, relative", one, other, difference.max(), LOSS, where)


def _below(
    name: str, one: Measurement, other: Measurement, value: float | np.floating, limit: float, where: str = ""
) -> Check:
    return Check(name, f"{one.party} / {other.party}", float(value), limit, bool(value <= limit), where)


def _relative(a: FloatArray, b: FloatArray, whole: float) -> float:
    scale = max(float(np.linalg.norm(a)), SMALLEST_SHARE * whole)
    return float(np.linalg.norm(a - b)) / scale


def _prepare(
    model: str,
    corpus: Corpus,
    folder: Path,
    steps: int,
    documents: int,
    seed: int,
    settings: Mapping[str, str],
    threads: int,
) -> Request:
    """Write the common start once and choose documents: evenly over the corpus, so every label is there."""
    recipe = replace(recipe_for(model).changed(settings), seed=seed, precision="fp32")
    opened = open_model(model, corpus.names, seed, lambda: corpus.texts, engines=ENGINES, pad_token=recipe.pad_token)
    require_adaptable(opened.spec, recipe)
    write_model(folder, opened.spec, opened.tensors.items(), opened.tokenizer, *recipe.cut)
    reference = folder / "reference" if recipe.quantise != "none" else folder
    if reference != folder:
        start = with_adapters(opened.tensors, opened.spec, recipe)
        write_model(reference, opened.spec, merged(start, start, opened.spec, recipe), opened.tokenizer, *recipe.cut)
    chosen = np.unique(np.linspace(0, len(corpus.texts) - 1, documents).astype(np.int32))
    encoded = opened.tokenizer.encode([corpus.texts[index] for index in chosen], *recipe.cut)
    ids = tuple(encoded.take(np.arange(len(chosen), dtype=np.int32)))
    epochs = -(-steps // -(-len(chosen) // recipe.batch))
    labels, recipe = corpus.labels[chosen], replace(recipe, epochs=epochs)
    return Request(str(folder), ids, labels, recipe, steps, threads, encoded.windows, str(reference))


def _encoded(request: Request) -> Encoded:
    lengths = np.array([len(tokens) for tokens in request.ids], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(np.concatenate(request.ids), offsets, lengths, request.windows)


def _batch(request: Request, encoded: Encoded, documents: IntArray, static: bool) -> Batch:
    (shape,) = fit_shapes([encoded.lengths[documents]], 1, static, encoded.windows)
    return assemble(encoded.take(documents), documents, request.labels[documents], shape)


def _reference_logits(request: Request) -> FloatArray:
    """transformers on the same folder, document by document, so nothing is padded; the mean over windows."""
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()  # standard error is for our own talk
    folder = request.reference or request.model
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    logits: list[torch.Tensor] = []
    with torch.inference_mode():
        for tokens in request.ids:
            parts = [tokens] if request.windows is None else request.windows.divide(tokens)
            found = [model(torch.from_numpy(part[None].astype(np.int64))).logits for part in parts]
            logits.append(torch.cat(found).mean(dim=0))
    return torch.stack(logits).numpy()


def _in_own_process(party: str, request: Request) -> Measurement:
    """`measure` in a spawned process: the frameworks never share one, and a fork would break JAX."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(party, request, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        answer = _silent(party, process.exitcode)
    process.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _silent(party: str, code: int | None) -> DuyguError:
    """What to say of a process that ended without an answer."""
    if code == -signal.SIGKILL:
        fix = "close what else takes memory, or give a smaller --set length"
        return killed(f"the {party} process", party, fix)
    return DuyguError(f"the {party} process ended without an answer")


def _send(party: str, request: Request, sender: multiprocessing.connection.Connection) -> None:
    try:
        sender.send(measure(party, request))
    except DuyguError as error:
        sender.send(error)
