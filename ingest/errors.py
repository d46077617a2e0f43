"""The errors of the ingest package; `lake.errors` has their base class and draws the whole hierarchy."""

from lake.errors import ExplainedError


class IngestError(ExplainedError):
    """Base of all errors of the ingest package."""


class SourceError(IngestError):
    """The source table is missing, or its stream is off or of the wrong view type."""


class SourceChangedError(SourceError):
    """The source table is not the one that the pipeline was set up for."""


class LakeUnavailableError(IngestError):
    """The lake refuses every write; retrying a single record would change nothing."""


class StreamError(IngestError):
    """The stream cannot be read."""


class TrimmedError(StreamError):
    """Records were trimmed before they were read: changes may be lost."""


class GoneError(TrimmedError):
    """The stream, or one of its shards, does not exist (any longer)."""


class UndecodableError(TrimmedError):
    """A record cannot be decoded, and its row cannot be read instead: for a copy, the record is as good as trimmed."""


class ExpiredIteratorError(StreamError):
    """A shard iterator expired (they live 15 minutes)."""


class StreamBusyError(StreamError):
    """The stream could not be read just now (throttling, the network); asking again will help."""


class MalformedRecordError(IngestError):
    """A record that can never apply. The text is the reason, and never holds an item's values."""


class ForeignRecordError(MalformedRecordError):
    """A record of another table than the pipeline's; the lake lacks nothing by it."""


class PolicyRefusedError(MalformedRecordError):
    """A row that the policy cannot be applied to, and which therefore does not pass. Its text holds no values."""


class ForeignEventError(IngestError):
    """An event that did not come from a DynamoDB stream. The text says from what, and what to do."""


class PolicyError(IngestError):
    """A policy cannot be carried out."""


class HashKeyChangedError(PolicyError):
    """The hash key is not the one with which the lake table's rows are hashed."""


class QuarantineError(IngestError):
    """A record could not be put away, so it must not be passed over."""


class DocumentError(IngestError):
    """A document of a quarantine or failure destination is not for this redrive."""


class ForeignDocumentError(DocumentError):
    """A document is of another pipeline."""


class UnknownDocumentError(DocumentError):
    """A document cannot be understood. The text never holds an item's values."""


class WorkerBusyError(IngestError):
    """Another worker reads the pipeline's stream already."""


class StoppedError(IngestError):
    """The work was told to stop before a batch was settled; it comes again."""


class BackfillError(IngestError):
    """A backfill cannot start or go on."""
