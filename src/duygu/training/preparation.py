"""Everything before the first step: from what the user asked for to what the loop needs, each part opened once.

What decides the numbers of a run (threads, precision, device) is taken from its record where the run goes on, whatever
this machine would choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from duygu.data.corpus import Corpus, read_corpus
from duygu.data.doubts import label_doubts
from duygu.data.duplicates import duplicate_groups
from duygu.data.sources import BY_DEFAULT, DataFormat
from duygu.data.split import Split, make_split, read_split
from duygu.data.tokens import Encoded
from duygu.engines import Engine, EngineName, Placement, open_engine
from duygu.errors import RecipeError
from duygu.files import require_space
from duygu.models.adapter_folder import leaves_adapters
from duygu.models.adapters import joined, require_adaptable, with_adapters
from duygu.models.fallback import THROUGH, version
from duygu.models.folder import Model, open_model, quantised, weights_digest
from duygu.models.source import pinned
from duygu.models.spec import parameters, tensor_shapes, with_dropout
from duygu.models.weights import LazyTensors, initialise
from duygu.recipe import Recipe
from duygu.training.augmentation import Augmentation, Vocabulary, augmentation
from duygu.training.checkpoint import Checkpoint, Checkpoints, newest_checkpoint
from duygu.training.guard import restarted
from duygu.training.machine import cores
from duygu.training.out_of_memory import Watched
from duygu.training.parameters import fresh_names, layers_of
from duygu.training.plan import FloatArray, IntArray, Plan, Shape, document_weights, evaluation_batches, make_plan
from duygu.training.progress import Progress
from duygu.training.run_folder import RunFolder, data_record, environment_record, recorded_format, tokens_digest

Batches = list[tuple[IntArray, Shape]]


@dataclass(frozen=True, slots=True)
class Job:
    """One run as it was asked for."""

    data: str  # a folder or a table
    model: str  # a local Hugging Face folder, a model of the hub or a model preset
    engine: EngineName
    recipe: Recipe
    out: Path
    split: str | None = None  # a saved split; without one, a split is made from split_seed
    split_seed: int = 0
    threads: int = 0  # CPU threads; 0 takes the cores there are
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    fold: int | None = None
    format: DataFormat = BY_DEFAULT  # how data is laid out
    track: tuple[str, ...] = ()  # tools that follow the run


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same from the first step of an attempt to its last."""

    job: Job
    recipe: Recipe  # of this attempt: the job's, or after a collapse what `guard.restarted` makes of it
    corpus: Corpus
    split: Split
    model: Model
    encoded: Encoded
    weights: FloatArray  # (N,) what each document counts in the loss
    augment: Augmentation | None
    plan: Plan
    validation: Batches
    test: Batches
    engine: Engine
    placement: Placement
    checkpoints: Checkpoints
    checkpoint: Checkpoint | None  # to go on from

    @property
    def evaluation_shapes(self) -> list[Shape]:
        """Distinct shapes of all evaluation batches."""
        return list(dict.fromkeys(shape for _, shape in self.validation + self.test))

    def tokens(self, documents: IntArray, epoch: int) -> list[IntArray]:
        """The ids of training documents as an epoch, counted from 1, sees them."""
        ids = self.encoded.take(documents)
        if self.augment is None:
            return ids
        return [self.augment(own, int(number), epoch) for own, number in zip(ids, documents, strict=True)]


def as_begun(job: Job) -> Job:
    """The job; one that goes on reads its data as it did before, unless it is told how."""
    return replace(job, format=recorded_format(job.out, job.data, job.format)) if job.resume else job


def read_data(job: Job) -> tuple[Corpus, Split]:
    """The documents and which of them are for what."""
    corpus = read_corpus(job.data, **job.format.as_dict())
    groups = duplicate_groups(corpus.texts)
    corpus = replace(corpus, groups=groups, warnings=(*corpus.warnings, *label_doubts(corpus, groups)))
    if job.split is not None:
        return corpus, read_split(job.split, corpus.ids, corpus.labels, groups, job.split_seed, corpus.digest)
    return corpus, make_split(corpus.labels, groups, corpus.ids, job.split_seed, where=corpus.root)


def set_up(job: Job, folder: RunFolder, corpus: Corpus, split: Split, progress: Progress) -> Setup:
    """Open engine and model, tokenise, plan; write the record of a new run or hold an old one to it."""
    checkpoint = newest_checkpoint(folder.checkpoints, progress.message)
    record = folder.environment() if checkpoint else {}
    progress.phase(f"opening {job.engine}")
    engine, placement = _open_engine(job, record, progress)
    progress.phase("reading the model")
    model = _open_model(job, corpus, split, record, progress)
    _require_length(job.recipe, model)
    _require_layers(job.recipe, model)
    _require_names(job.recipe, model)
    require_adaptable(model.spec, job.recipe)
    quantised(model, job.recipe, progress)
    for warning in (*corpus.warnings, *split.warnings, *model.warnings):
        progress.message(f"note: {warning}")
    progress.phase("tokenising")
    encoded = model.tokenizer.encode(corpus.texts, *job.recipe.cut)
    if note := _left_out(encoded):
        progress.message(f"note: {note}")
    recipe = restarted(job.recipe, checkpoint.mark.attempt if checkpoint else 0)
    weights = document_weights(corpus.labels, split.train, corpus.names, recipe)
    augment = augmentation(lambda: _vocabulary(model), recipe)
    plan = make_plan(split.train, encoded.lengths, recipe, engine.static_shapes, encoded.windows)
    checkpoints = Checkpoints(folder.checkpoints, model.spec, job.recipe)
    require_space(folder.path, checkpoints.missing_bytes() + _whole_bytes(model, job.recipe))
    validation, test = (
        evaluation_batches(part, encoded.lengths, engine.static_shapes, windows=encoded.windows)
        for part in (split.validation, split.test)
    )
    setup = Setup(
        job, recipe, corpus, split, model, encoded, weights, augment, plan, validation, test, engine, placement,
        checkpoints, checkpoint,
    )  # fmt: skip
    _record(setup, folder, record)
    return setup


def begun_again(setup: Setup, attempt: int) -> Setup:
    """The same run from its start, with the recipe of another attempt."""
    recipe = restarted(setup.job.recipe, attempt)
    augment = augmentation(lambda: _vocabulary(setup.model), recipe)
    encoded = setup.encoded
    plan = make_plan(setup.split.train, encoded.lengths, recipe, setup.engine.static_shapes, encoded.windows)
    return replace(setup, recipe=recipe, augment=augment, plan=plan, checkpoint=None)


def _open_engine(job: Job, record: Mapping[str, Any], progress: Progress) -> tuple[Engine, Placement]:
    """The engine and where it computes: as recorded, else as asked, else what suits this machine."""
    threads = record.get("threads") or job.threads or cores()
    if job.threads not in (0, threads):
        progress.message(f"note: CPU threads stay {threads}, as this run began")
    engine = open_engine(job.engine, threads)
    precision = record.get("precision") or job.recipe.precision
    if precision == "auto":
        precision = "bf16" if engine.probe().fast_bf16 else "fp32"
    return Watched(engine), Placement(precision, threads, job.device)


def _open_model(job: Job, corpus: Corpus, split: Split, record: Mapping[str, Any], progress: Progress) -> Model:
    """The model as asked; a run that goes on takes the commit of the hub that it began with."""
    source = pinned(job.model, record.get("model_revision"))
    model = open_model(
        source, corpus.names, job.recipe.seed, lambda: [corpus.texts[n] for n in split.train], progress, [job.engine],
        job.recipe.pad_token,
    )  # fmt: skip
    return replace(model, name=job.model)


def _left_out(encoded: Encoded) -> str | None:
    """What windows were meant to read and do not; that a limit without windows cuts is what it is for."""
    longer = int((encoded.whole > encoded.lengths).sum())
    if encoded.windows is None or not longer:
        return None
    tokens, most = int((encoded.whole - encoded.lengths).sum()), encoded.windows.most
    return f"{longer} documents are longer than {most} windows; {tokens:,} tokens of them are not read (max_windows)"


def _require_length(recipe: Recipe, model: Model) -> None:
    if recipe.length > model.spec.positions:
        problem = f"length = {recipe.length}, but the model has {model.spec.positions} positions"
        raise RecipeError(problem, "recipe field length", f"--set length={model.spec.positions}")


def _require_layers(recipe: Recipe, model: Model) -> None:
    """Refuse what reaches beyond the model's layers, or freezes weights that are new."""
    layers, frozen, fresh = layers_of(model.tensors), recipe.frozen, recipe.fresh_layers
    if fresh > layers:
        problem = f"fresh_layers = {fresh}, but the model has {layers} layers"
        raise RecipeError(problem, "recipe field fresh_layers", f"give 0 to {layers}")
    if frozen > layers + 1 - fresh:
        below = f", below {fresh} fresh ones" if fresh else ""
        problem = f"frozen = {frozen}, but all there is to freeze is the embeddings and {layers - fresh} layers{below}"
        raise RecipeError(problem, "recipe field frozen", f"give 0 to {layers + 1 - fresh}")


def _require_names(recipe: Recipe, model: Model) -> None:
    """Refuse for a fallback what its tensors' names do not tell: layers that are not numbered, what belongs to them."""
    if model.spec.fallback is None:
        return
    with_dropout(model.spec, recipe)
    if recipe.gradient_checkpointing:
        problem = "gradient_checkpointing is for families of duygu's own: where a layer begins is known of twins only"
        raise RecipeError(
            problem, "recipe field gradient_checkpointing", "set it to false; microbatch saves memory too"
        )
    if recipe.fresh_layers:
        problem = f"fresh_layers = {recipe.fresh_layers}, but which tensors go with a layer is known of twins only"
        raise RecipeError(problem, "recipe field fresh_layers", "set it to 0 for this model")
    if recipe.layer_decay < 1 and not layers_of(model.tensors):
        problem = f"layer_decay = {recipe.layer_decay}, but the tensors of {model.spec.family} number no layers"
        raise RecipeError(problem, "recipe field layer_decay", "set it to 1 for this model")


def _whole_bytes(model: Model, recipe: Recipe) -> int:
    """Disk space of a result that is larger than its checkpoints: the whole model, adapters merged into it."""
    merges = recipe.lora_rank and not leaves_adapters(model.name, recipe)
    return 4 * parameters(model.spec) if merges else 0


def _vocabulary(model: Model) -> Vocabulary:
    """What augmentation must know of the tokenizer."""
    begins, special = model.tokenizer.beginnings()
    blank = model.tokenizer.blank_id
    if blank is None:
        problem = "the tokenizer has neither a mask token nor an unknown token to put in a word's place"
        raise RecipeError(problem, "recipe field word_dropout", "set word_dropout and word_swap to 0 for this model")
    return Vocabulary(begins, special, blank, model.tokenizer.spell)


def _record(setup: Setup, folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Write ``data.json`` and ``environment.json``; a run that goes on must have begun with the same."""
    tokens, weights = tokens_digest(setup.encoded), weights_digest(first_tensors(setup.model, setup.job.recipe).items())
    here = environment_record(setup.engine, setup.placement) | through(setup.model)
    if setup.checkpoint is not None:
        folder.accept_model(tokens, weights)
        resumed = cast(list[object], record.get("resumed", []))
        entry = {"step": setup.checkpoint.mark.step, **here, **folder.laid_out_anew(setup.job.recipe)}
        folder.write_environment({**record, "resumed": [*resumed, entry]})
        return
    encoded, share = setup.encoded, setup.plan.real_share
    limit = setup.job.recipe.length if encoded.windows is None else encoded.windows.limit
    data = data_record(setup.corpus, setup.split, encoded, limit, tokens, share, setup.job.format)
    model = {"model": setup.model.name, "model_revision": setup.model.revision, "start_weights": weights}
    folder.begin(setup.job.recipe, data, {**here, **model})


def through(model: Model) -> dict[str, str]:
    """The entry of a record that says that a model was computed by transformers; nothing for a twin."""
    return {} if model.spec.fallback is None else {"through": f"{THROUGH}, version {version()}"}


def start_tensors(setup: Setup) -> Mapping[str, np.ndarray]:
    """What the engine starts from: the checkpoint's tensors, or the attempt's first."""
    if setup.checkpoint is None:
        return first_tensors(setup.model, setup.recipe)
    return whole_tensors(setup, setup.checkpoint.tensors)


def whole_tensors(setup: Setup, saved: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What a checkpoint saved, and beside adapters the model that they belong to."""
    return joined(first_tensors(setup.model, setup.recipe), saved) if setup.recipe.lora_rank else saved


def first_tensors(model: Model, recipe: Recipe) -> Mapping[str, np.ndarray]:
    """The model's tensors; those that no checkpoint gave, and the layers that start afresh, drawn from the seed.

    With adapters, these too, and the weights of the layers as the recipe quantises them.
    """
    shapes = tensor_shapes(model.spec)
    drawn = {*model.account.initialised, *fresh_names(shapes, recipe)}
    tensors = LazyTensors(
        {
            name: partial(initialise, name, shape, model.spec, recipe.seed)
            if name in drawn
            else partial(model.tensors.__getitem__, name)
            for name, shape in shapes.items()
        }
    )
    return with_adapters(tensors, model.spec, recipe, quantised(model, recipe))
