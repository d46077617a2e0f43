"""What can go wrong in the lake package, as one family.

LakeError
├── ContractError          a name, a version or a row breaks the lake table's contract
├── LakeTableError         the lake table or its companions cannot be made or are not as they must be
├── SnapshotError          a snapshot cannot be written, read or rolled forward
│   └── SnapshotBusyError  somebody else is writing it just now
├── DecodeError            bytes that are not DynamoDB JSON, or that no column can hold
└── ExportError            an export's target or format cannot be served
"""


class LakeError(Exception):
    """Base of all errors of the lake package; its text says what is wrong and what to do."""


class ContractError(LakeError):
    """A name, a version or a row breaks the lake table's contract."""


class LakeTableError(LakeError):
    """The lake table, the catalogue or the checkpoint table cannot be made or is not as it must be."""


class SnapshotError(LakeError):
    """A snapshot cannot be written, read or rolled forward."""


class SnapshotBusyError(SnapshotError):
    """Somebody else is writing the snapshot just now; trying again will help."""


class DecodeError(LakeError):
    """Bytes that are not DynamoDB JSON, or that no column can hold."""


class ExportError(LakeError):
    """An export's target or format cannot be served."""
