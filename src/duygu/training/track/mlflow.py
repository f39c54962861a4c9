"""MLflow: its client on a SQLite file within the run folder, or on the server that ``MLFLOW_TRACKING_URI`` names.

A run that goes on keeps its MLflow run, and only what that lacks is added.
"""

# pyright: basic
# because the package's functions have loose types

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from duygu.files import make_folder, read_text, write_text
from duygu.training.track.content import Cell, Confusion, Table
from duygu.training.track.tracker import Outcome, Tracked

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when the package is imported
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 hold up the training for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages about one another
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # here, where its warnings are unheard
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

EXPERIMENT = "duygu"
STORE = "mlflow.db"
STATUS: Mapping[Outcome, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
TOGETHER = 500  # metrics that are sent at once; MLflow takes 1000
WAIT = 5.0  # seconds after which fewer are sent


def open_run(run: Tracked) -> MLflow:
    """Start or go on; the store and its experiment are made where they are missing."""
    make_folder(run.folder)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder / STORE}"
    client = MlflowClient(tracking_uri=uri)
    return MLflow(client, uri, _run_id(client, uri, run))


class MLflow:
    """A `Tracker` that sends metrics in bundles, and tables as JSON artifacts."""

    def __init__(self, client: MlflowClient, uri: str, run_id: str) -> None:
        self._client, self._uri, self._run_id = client, uri, run_id
        names = client.get_run(run_id).data.metrics
        self._known = {(name, m.step) for name in names for m in client.get_metric_history(run_id, name)}
        self._waiting: list[Metric] = []
        self._sent = time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A metric per name."""
        now = int(time.time() * 1000)
        new = {name: value for name, value in values.items() if (name, step) not in self._known}
        self._waiting += [Metric(name, value, now, step) for name, value in new.items()]
        if len(self._waiting) >= TOGETHER or time.monotonic() > self._sent + WAIT:
            self._send()

    def confusion(self, step: int, matrix: Confusion) -> None:
        """As a table."""
        self.table(step, matrix.table())

    def table(self, step: int, table: Table) -> None:
        """As JSON that pandas reads with orient="split"."""
        content = {"columns": list(table.columns), "data": [list(row) for row in table.rows]}
        self._client.log_dict(self._run_id, content, f"{table.name}/step-{step:06}.json")

    def end(self, outcome: Outcome) -> str:
        """Send what waits and set the run's status."""
        self._send()
        self._client.set_terminated(self._run_id, STATUS[outcome])
        return shlex.join(("mlflow", "ui", "--backend-store-uri", self._uri))

    def _send(self) -> None:
        if self._waiting:
            self._client.log_batch(self._run_id, metrics=self._waiting)
        self._waiting, self._sent = [], time.monotonic()


def _run_id(client: MlflowClient, uri: str, run: Tracked) -> str:
    """The id of the MLflow run: the one that this run folder wrote down, or a new one."""
    kept = run.folder / "run_id"
    if kept.exists():
        run_id = read_text(kept).strip()
        client.update_run(run_id, status="RUNNING")
        return run_id
    made = client.create_run(_experiment(client, uri, run.folder), run_name=run.name)
    params = [Param(name, _text(value)) for name, value in run.facts.items()]
    client.log_batch(made.info.run_id, params=params)
    write_text(kept, f"{made.info.run_id}\n")
    return made.info.run_id


def _experiment(client: MlflowClient, uri: str, folder: Path) -> str:
    """The id of the experiment; a store of our own has its artifacts beside it."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    own = uri.startswith("sqlite:") and "MLFLOW_TRACKING_URI" not in os.environ
    place = (folder / "artifacts").as_uri() if own else None
    return found.experiment_id if found else client.create_experiment(name, artifact_location=place)


def _text(value: Cell | None) -> str:
    return "none" if value is None else str(value)
