"""One item's way through the whole pipeline: written in the source, seen in the lake, deleted, seen as a tombstone.

It writes to the team's own table, so it is done only where it is asked for. Whoever reads that table or its stream
sees it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dynalake.doctor.checkup import Patient
from dynalake.errors import UserError
from ingest.errors import PolicyRefusedError
from ingest.wire import from_boto3, to_boto3
from lake.contract.rows import DELETED

TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.2
_DIGITS: Final = 10**17


@dataclass(frozen=True, slots=True)
class Canary:
    """How it went.

    Attributes:
        key: the item's key, in wire form.
        written_s: seconds from the write in the source to the row in the lake.
        deleted_s: seconds from the deletion in the source to the tombstone in the lake.
    """

    key: dict[str, Any]
    written_s: float
    deleted_s: float


def send_canary(
    patient: Patient,
    *,
    timeout_s: float = TIMEOUT_S,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Canary:
    """Send an item through the pipeline.

    Raises:
        UserError: the policy expects keys of another form, and nothing was written; or the item did not arrive in time.
            It is deleted from the source all the same.
    """
    source = patient.account("source").dynamodb()
    lake = patient.account("lake").dynamodb()
    table, lake_table = patient.config.source.table, patient.config.lake_table
    word = f"dynalake-canary-{secrets.token_hex(8)}"
    values: dict[str, dict[str, Any]] = {
        "S": {"S": word},
        "N": {"N": str(-secrets.randbelow(_DIGITS) - _DIGITS)},
        "B": {"B": word.encode()},
    }
    key: dict[str, Any] = {part.name: values[part.type] for part in patient.pipeline.described_source.key}
    try:
        lake_key = to_boto3(patient.pipeline.policy.apply(from_boto3(key)))
    except PolicyRefusedError as error:
        raise UserError(
            f"the canary's key {word!r} does not have the form that the policy expects ({error.message})",
            remedy="leave --canary out, write an item of your own to the source, and look for it in the lake table",
        ) from None

    def wait(what: str, holds: Callable[[dict[str, Any] | None], bool]) -> float:
        began = monotonic()
        while True:
            row = lake.get_item(TableName=lake_table, Key=lake_key, ConsistentRead=True).get("Item")
            if holds(row):
                return monotonic() - began
            if monotonic() - began > timeout_s:
                raise UserError(
                    f"the canary's {what} did not reach {lake_table} in {timeout_s:.0f} s",
                    remedy=f"see the function's log, and run `dynalake status {patient.name}`",
                )
            sleep(POLL_S)

    partition = next(iter(key))
    source.put_item(
        TableName=table,
        Item={**key, "dynalake_canary": {"BOOL": True}},
        ConditionExpression="attribute_not_exists(#partition)",
        ExpressionAttributeNames={"#partition": partition},
    )
    try:
        written_s = wait("row", lambda row: row is not None and DELETED not in row)
    finally:
        source.delete_item(TableName=table, Key=key)
    deleted_s = wait("tombstone", lambda row: row is not None and DELETED in row)
    return Canary(from_boto3(key), written_s, deleted_s)
