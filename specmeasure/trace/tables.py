"""Trials, blocks and windows as parquet tables with explicit schemas; null means unknown."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from specmeasure.records.trace import WindowRecord
from specmeasure.trace.parquet import TableWriter

TRIALS, BLOCKS, WINDOWS = "trials.parquet", "blocks.parquet", "windows.parquet"
IDS = pa.list_(pa.int32())
SIZES = pa.list_(pa.int64())
FLOATS = pa.list_(pa.float64())
SCORE = pa.struct(
    [("excess", pa.float64()), ("variance", pa.float64()), ("third_moment", pa.float64())]
)
AUDIT = pa.struct(
    [
        ("num_checked_tokens", pa.int32()),
        (
            "suspects",
            pa.list_(
                pa.struct([("index", pa.int32()), ("delta", pa.float64()), ("noise", pa.float64())])
            ),
        ),
        (
            "divergence",
            pa.struct(
                [
                    ("index", pa.int32()),
                    ("token_id", pa.int32()),
                    ("baseline_token_id", pa.int32()),
                    ("gap", pa.float64()),
                    ("noise", pa.float64()),
                ]
            ),
        ),
    ]
)
SAMPLED_AUDIT = pa.struct(
    [
        ("pit", FLOATS),
        ("num_impossible", pa.int32()),
        ("surprise", SCORE),
        (
            "pull",
            pa.struct(
                [
                    ("score", SCORE),
                    ("shift", pa.float64()),
                    ("num_judged", pa.int32()),
                    ("total_variation", pa.float64()),
                ]
            ),
        ),
    ]
)
TOKEN_PROBS = pa.struct(
    [
        ("target", FLOATS),
        ("draft", FLOATS),
        ("rejected_target", FLOATS),
        ("rejected_draft", FLOATS),
    ]
)
CHECKS = pa.struct(
    [
        ("audit", AUDIT),
        ("sampled_audit", SAMPLED_AUDIT),
        ("is_correct", pa.bool_()),
        ("token_probs", TOKEN_PROBS),
    ]
)
CROWDING = pa.struct([("other_cores", pa.float64()), ("stalled_share", pa.float64())])
LOAD = pa.struct([("concurrency", pa.int32()), ("rate", pa.float64())])
COUNTS = pa.struct(
    [
        pa.field("num_draft_tokens", pa.int64(), nullable=False),
        pa.field("num_accepted_tokens", pa.int64(), nullable=False),
        ("num_drafted_blocks", pa.int64()),
        ("accepted_by_position", SIZES),
        ("histogram", SIZES),
        ("steps", pa.list_(SIZES)),  # drafted and accepted tokens, block by block
    ]
)
TRIAL_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        ("load", LOAD),  # null: in process
        pa.field("prompt_hash", pa.string(), nullable=False),
        pa.field("labels", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field(
            "sampling",
            pa.struct(
                [
                    pa.field("temperature", pa.float64(), nullable=False),
                    ("top_k", pa.int32()),
                    ("top_p", pa.float64()),
                ]
            ),
            nullable=False,
        ),
        ("error", pa.string()),
        ("num_prompt_tokens", pa.int32()),
        ("num_emitted_tokens", pa.int32()),
        ("ids_hash", pa.string()),
        ("token_ids", IDS),
        ("prompt_ids", IDS),
        ("finish_reason", pa.string()),
        ("ttft_s", pa.float64()),
        ("decode_s", pa.float64()),
        ("model_bytes", pa.int64()),
        ("cache_bytes", pa.int64()),
        ("peak_memory_bytes", pa.int64()),
        ("capture_s", pa.float64()),
        ("crowding", CROWDING),  # null: not observed
        ("worker", pa.int32()),  # null: the run had none
        ("checks", CHECKS),
        ("group", pa.int32()),
        ("counts", COUNTS),
        ("sent_s", pa.float64()),
        ("num_retries", pa.int32()),
    ]
)
BLOCK_SCHEMA = pa.schema(
    [
        pa.field("trial_index", pa.int32(), nullable=False),  # row in trials.parquet
        pa.field("num_draft_tokens", pa.int32(), nullable=False),
        pa.field("num_accepted_tokens", pa.int32(), nullable=False),
        pa.field("num_emitted_tokens", pa.int32(), nullable=False),
        pa.field("context_length", pa.int32(), nullable=False),
        pa.field("draft_s", pa.float64(), nullable=False),
        pa.field("verify_s", pa.float64(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        ("draft_depth", pa.int32()),  # null: a chain
        ("draft_ids", IDS),
        ("emitted_ids", IDS),
    ]
)

WINDOW_SCHEMA = pa.schema(
    [
        pa.field("load", LOAD, nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("num_emitted_tokens", pa.int64(), nullable=False),
        pa.field("mean_in_flight", pa.float64(), nullable=False),
        ("counters", COUNTS),
        ("num_counted_tokens", pa.int64()),
        ("memory_bytes", pa.int64()),
    ]
)


def write_windows(folder: Path, windows: Sequence[WindowRecord]) -> None:
    """Write what windows showed beyond their trials."""
    rows = (msgspec.to_builtins(window) for window in windows)
    table = pa.Table.from_pylist([{**row.pop("key"), **row} for row in rows], schema=WINDOW_SCHEMA)
    with TableWriter(folder / WINDOWS, WINDOW_SCHEMA) as writer:
        writer.write(table)


def read_windows(folder: Path) -> list[WindowRecord]:
    """Windows in recorded order."""
    windows = []
    for row in pq.read_table(folder / WINDOWS).to_pylist():
        key = {name: row.pop(name) for name in ("load", "group", "arm")}
        windows.append(msgspec.convert({"key": key, **row}, WindowRecord))
    return windows
