"""Training steps of one of duygu's engines, as the training loop takes them."""

from __future__ import annotations

from collections.abc import Sequence

import harness

JOB = harness.read_job()  # limits threads, so it comes first

import numpy as np

from duygu.engines import Placement, StepKey, open_engine
from duygu.models.folder import open_classifier
from duygu.recipe import Recipe
from duygu.training.plan import Shape, Step, assemble, make_plan

PACKAGES = {"torch": ("torch",), "jax": ("jax", "jaxlib", "optax")}


def prepare(job: harness.Job) -> harness.Training:
    ids = [np.array(row, np.int32) for row in job.input["ids"]]
    labels = np.array(job.input["labels"], np.int32)
    recipe = Recipe(**job.input["recipe"])
    engine = open_engine(job.options["engine"], job.threads)
    model = open_classifier(job.model)
    lengths = np.array([len(row) for row in ids], np.int32)
    plan = make_plan(np.arange(len(ids), dtype=np.int32), lengths, recipe, engine.static_shapes)
    steps = {tuple(step.documents.tolist()): step for step in plan.steps}
    timed = [steps[tuple(documents)] for documents in job.input["timed"]]
    warm = _one_of_each_shape(timed) if engine.static_shapes else [steps[tuple(job.input["warm"][0])]]
    shapes = list(dict.fromkeys(shape for step in (*warm, *timed) for shape in step.shapes))
    state = engine.start(model.spec, model.tensors, recipe, Placement(job.options["precision"], job.threads))
    ready = False

    def take(documents: Sequence[int]) -> float:
        nonlocal state, ready
        if not ready:
            engine.compile(state, shapes, [])
            ready = True
        step = steps[tuple(documents)]
        parts = zip(step.microbatches, step.shapes, strict=True)
        batches = [assemble([ids[n] for n in part], part, labels[part], shape) for part, shape in parts]
        state, result = engine.step(state, batches, step.lr, StepKey(recipe.seed, step.number))
        return result.loss

    return harness.Training(
        take,
        [step.documents.tolist() for step in warm],
        [step.documents.tolist() for step in timed],
        lambda documents: sum(shape.tokens for shape in steps[tuple(documents)].shapes),
        len(shapes) if engine.static_shapes else 0,
    )


def _one_of_each_shape(steps: Sequence[Step]) -> list[Step]:
    first: dict[tuple[Shape, ...], Step] = {}
    for step in steps:
        first.setdefault(step.shapes, step)
    return list(first.values())


if __name__ == "__main__":
    harness.train(JOB, prepare, ("duygu", "numpy", *PACKAGES[JOB.options["engine"]]))
