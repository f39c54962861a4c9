"""The rows of a Parquet file, a value at a time, through pyarrow."""

# pyright: basic
# because pyarrow has no types

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from duygu.data.columns import Wanted, find_columns
from duygu.errors import DataError

BATCH = 1024  # rows
GROUP_LIMIT = 2**30  # bytes of the wanted columns that one row group may become when it is unpacked
EPOCH = datetime(1970, 1, 1)
WRITE_AGAIN = "write it again, or convert it to CSV"


def parquet_rows(file: BinaryIO, name: str, wanted: Wanted) -> Iterator[tuple[int, tuple[object, ...]]]:
    """(row from 1, value of each wanted column); moments are UTC. Raises `DataError` for a file that is damaged."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("Parquet needs pyarrow", name, "pip install 'duygu[parquet]', or convert it to CSV") from error
    number = 0
    columns = list(wanted.values())
    try:
        with _opened(file, name, wanted) as table:
            for batch in table.iter_batches(BATCH, columns=columns):
                readers = [_reader(batch.column(column)) for column in columns]
                for row in range(batch.num_rows):
                    number += 1
                    yield number, tuple(read(row) for read in readers)
    except (pyarrow.ArrowException, OSError, LookupError, ValueError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        where = f"{name}:{number}" if number else name
        raise DataError(f"not a sound Parquet file: {reason}", where, WRITE_AGAIN) from error


def _opened(file: BinaryIO, name: str, wanted: Wanted) -> Any:
    """The file with its repeated texts left as references, so that unpacking cannot multiply them."""
    import pyarrow.parquet as parquet

    metadata = parquet.read_metadata(file)
    schema = metadata.schema.to_arrow_schema()
    find_columns(wanted, schema.names, name)
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(number) for number in range(metadata.num_columns)]
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema in wanted.values())
        if size > GROUP_LIMIT:
            fix = f"write it with row groups below {GROUP_LIMIT // 2**30} GB"
            raise DataError(f"row group {group} would take {size:,} bytes of memory", name, fix)
    texts = [column for column in wanted.values() if str(schema.field(column).type) in ("string", "large_string")]
    return parquet.ParquetFile(file, metadata=metadata, read_dictionary=texts)


def _reader(column: Any) -> Callable[[int], object]:
    """What gives the value of a row: text for bytes, UTC for moments, else Python's nearest type."""
    import pyarrow

    def plain(row: int) -> object:
        value = column[row].as_py()
        return value.decode() if isinstance(value, bytes) else value

    def moment(row: int) -> object:
        value = column[row].as_py()
        return None if value is None else EPOCH + timedelta(microseconds=value)

    if not pyarrow.types.is_timestamp(column.type):
        return plain
    column = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False).cast(pyarrow.int64())
    return moment
