"""TensorBoard: one event file, written record by record with TensorBoard's own messages and no TensorFlow.

Scalars are single precision there. Tables are Markdown in the text tab.
"""

# pyright: basic, reportAttributeAccessIssue=false
# because protobuf's messages have no types

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Iterable, Mapping

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from duygu.errors import printable
from duygu.files import make_folder
from duygu.training.track.content import Cell, Confusion, Table
from duygu.training.track.tracker import Outcome, Tracked

EVENTS = "events.out.tfevents"  # what TensorBoard looks for
VERSION = "brain.Event:2"
TEXT = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))


def open_run(run: Tracked) -> TensorBoard:
    """A new event file in place of one from before: the history tells it all again."""
    make_folder(run.folder)
    for path in run.folder.glob(f"{EVENTS}.*"):
        path.unlink()
    tracker = TensorBoard(run)
    facts = ((name, "none" if value is None else value) for name, value in run.facts.items())
    tracker.table(0, Table("run", ("", run.name), tuple(facts)))
    return tracker


class TensorBoard:
    """A `Tracker` that appends to an event file."""

    def __init__(self, run: Tracked) -> None:
        self._folder = run.folder
        self._file = (run.folder / f"{EVENTS}.{time.time_ns()}.{socket.gethostname()}").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version=VERSION))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """A value per name."""
        self._summary(step, (Summary.Value(tag=name, simple_value=value) for name, value in values.items()))

    def confusion(self, step: int, matrix: Confusion) -> None:
        """As a table."""
        self.table(step, matrix.table())

    def table(self, step: int, table: Table) -> None:
        """As text in Markdown."""
        text = TensorProto(dtype=DT_STRING, string_val=[markdown(table).encode()])
        self._summary(step, [Summary.Value(tag=table.name, tensor=text, metadata=TEXT)])

    def end(self, outcome: Outcome) -> str:
        """Close the file."""
        self._records.close()
        return shlex.join(("tensorboard", "--logdir", str(self._folder)))

    def _summary(self, step: int, values: Iterable[Summary.Value]) -> None:
        self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()


def markdown(table: Table) -> str:
    """A table in Markdown; labels come from the user's data and are shown as they are."""
    lines = [table.columns, ("---",) * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Cell) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else printable(str(value))
    return "".join(f"\\{c}" if c in "\\`*_[]<>|" else c for c in text)
