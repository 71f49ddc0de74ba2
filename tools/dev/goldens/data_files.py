"""Data files as other programs write them: gzip, zstd (in one piece and in several), Parquet.

Row i of the compressed ones is {"i": i, "text": "<i * i> 번째 줄"}, 500 rows. rows.parquet has a
column of each kind that data sets have, 7 rows in row groups of 3.
"""

import datetime
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 500


def lines(begin, end):
    return "".join(json.dumps({"i": i, "text": f"{i * i} 번째 줄"}, ensure_ascii=False) + "\n"
                   for i in range(begin, end)).encode()


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def table():
    """Seven rows; null somewhere in each column but the first."""
    count = 7
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)
    turns = [[{"role": "user", "content": f"질문 {i}"}, {"role": "assistant", "content": "답"}]
             for i in range(count)]
    names = ["a", "b", None, "a", "b", "a", None]
    columns = {
        "text": pa.array([f"줄 {i}" for i in range(count)]),
        "large": pa.array([None] + [f"large {i}" for i in range(1, count)], pa.large_string()),
        "flag": pa.array([i % 2 == 0 if i != 3 else None for i in range(count)]),
        "small": pa.array([None if i == 1 else -i for i in range(count)], pa.int8()),
        "wide": pa.array([None if i == 1 else 2**63 + i for i in range(count)], pa.uint64()),
        "score": pa.array([None if i == 2 else i / 4 for i in range(count)]),
        "ids": pa.array([None if i == 4 else list(range(i)) for i in range(count)],
                        pa.list_(pa.int32())),
        "messages": pa.array(turns),
        "pair": pa.array([[i, i + 1] if i != 5 else None for i in range(count)],
                         pa.list_(pa.int64(), 2)),
        "kind": pa.array(names).dictionary_encode(),
        "time": pa.array([day if i else None for i in range(count)], pa.timestamp("s")),
    }
    return pa.table(columns)


def make(options):
    folder = options.output / "data_files"
    folder.mkdir(parents=True, exist_ok=True)
    half = ROWS // 2
    whole, first, second = lines(0, ROWS), lines(0, half), lines(half, ROWS)

    def packed(data):
        return gzip.compress(data, mtime=0)

    (folder / "rows.jsonl.gz").write_bytes(packed(whole))
    (folder / "members.jsonl.gz").write_bytes(packed(first) + packed(second))
    (folder / "rows.jsonl.zst").write_bytes(zstd(whole))
    (folder / "frames.jsonl.zst").write_bytes(zstd(first) + zstd(second))
    pq.write_table(table(), folder / "rows.parquet", row_group_size=3)
