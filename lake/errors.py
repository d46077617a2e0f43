"""The base class of all errors of dynalake, the whole hierarchy, and the errors of the lake package.

ExplainedError                     message, remedy, exit_code
├── AwsError                       AWS refuses a call, or cannot be reached (see `aws_error`)
├── LakeError                      lake
│   ├── ContractError              a name, a version or a row breaks the lake table's contract
│   ├── LakeTableError             the lake table or its companions cannot be created, or are misconfigured
│   ├── SnapshotError              a snapshot cannot be written, read or rolled forward
│   │   ├── SnapshotBusyError      another writer holds it
│   │   └── OutdatedSnapshotError  an earlier version of dynalake wrote it, and it may be wrong
│   ├── DecodeError                bytes that are not DynamoDB JSON, or that no column can hold
│   └── ExportError                an export's target or format cannot be served
├── IngestError                    ingest
│   ├── SourceError                the source table is missing, or its stream is off or of the wrong view type
│   │   └── SourceChangedError     the source table is not the one that the pipeline was set up for
│   ├── LakeUnavailableError       the lake refuses every write
│   ├── StreamError                the stream cannot be read
│   │   ├── TrimmedError           records were trimmed before they were read
│   │   │   ├── GoneError           the stream, or one of its shards, does not exist
│   │   │   └── UndecodableError    a record that cannot be decoded, of a row that cannot be read again
│   │   ├── ExpiredIteratorError   a shard iterator is older than 15 minutes
│   │   └── StreamBusyError        the stream cannot be read at the moment; a retry helps
│   ├── ForeignEventError          an event that does not come from a DynamoDB stream
│   ├── MalformedRecordError       a record that can never be applied; the message is the quarantine's reason
│   │   ├── ForeignRecordError     a record of another table
│   │   └── PolicyRefusedError     the policy cannot be applied to a row, so the row must not pass
│   ├── PolicyError                a policy cannot be carried out
│   │   └── HashKeyChangedError    the hash key is not that of the lake table's rows
│   ├── QuarantineError            a record could not be stored in the quarantine
│   ├── DocumentError              a document of a quarantine or failure destination is not for this redrive
│   │   ├── ForeignDocumentError   it is of another pipeline
│   │   └── UnknownDocumentError   its format is unknown
│   ├── WorkerBusyError            another worker reads the stream
│   ├── StoppedError               the worker was told to stop
│   ├── BackfillError              a backfill cannot start or continue
│   └── PackageError               the function's zip cannot be built
├── QueryError                     queries
│   ├── QueryNotFound              no shipped query and no file has this name, or the file is no query file
│   ├── ParameterError             a parameter is missing, unknown or ill-typed, or its declaration is invalid
│   ├── DdlError                   a Hive table or view cannot be generated from what was given
│   └── EngineError                an engine refuses the query, or its dialect cannot express it
├── ExpectationsError              expectations
│   ├── ParityError                the two sides cannot be compared
│   └── CheckError                 the suites cannot be run
└── UserError                      dynalake: the command line and the Python API
    ├── ConfigError                dynalake.toml is missing, not TOML, or has an invalid value
    ├── AccountError               a side's credentials are missing, refused, or of another account
    ├── DeployError                a stack cannot be created, changed or deleted
    ├── PublishError               Tableau cannot be reached, refuses, or lacks what was named
    │   └── UpdateRefusedError     Tableau refuses an incremental update
    └── FailedError                a prerequisite that `doctor` checks is not met
        └── WarnedError            a prerequisite is met, but may cause trouble
"""

from __future__ import annotations

from typing import ClassVar, Final

_WIDTH: Final = 110
_RED, _PLAIN = "\x1b[31m", "\x1b[39m"
_MISTAKE: Final = 2


class ExplainedError(Exception):
    """The base class of every error that dynalake shows to a user.

    `raise SomeError("what is wrong", remedy="what to do")`. The two are never put into one text, so a program
    reads each from its own field. An error that knows no remedy has none: a made-up one would mislead.

    Attributes:
        message: what is wrong, without a full stop.
        remedy: what to do about it, as an instruction without a full stop; empty if it is not known.
        exit_code: the command line's exit code (see `dynalake.cli.endings`).
    """

    exit_code: ClassVar[int] = _MISTAKE

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """State what is wrong, and what to do."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Both fields on one line, for logs and for Python's own traceback."""
        return f"{self.message}: {self.remedy}" if self.remedy else self.message

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback.

        IPython asks an exception for this method before it renders the traceback itself
        (`InteractiveShell.showtraceback`). `traceback.print_last()` still prints the traceback.
        """
        import textwrap  # imported here because the Lambda function never needs it

        name = type(self).__name__
        shown = textwrap.fill(f"{name}: {' '.join(self.message.split())}", _WIDTH).removeprefix(f"{name}: ")
        remedy = textwrap.fill(f"Remedy: {' '.join(self.remedy.split())}", _WIDTH)
        return [_coloured(name, shown), *([remedy] if self.remedy else [])]


def explain(error: Exception) -> None:
    """Make a notebook show another library's error as it shows ours: its name and its text, without a traceback.

    Args:
        error: the error; the caller raises it again.
    """
    lines = [_coloured(type(error).__name__, str(error).strip())]
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # looked for by IPython alone


def _coloured(name: str, text: str) -> str:
    return f"{_RED}{name}{_PLAIN}: {text}"


class AwsError(ExplainedError):
    """AWS refuses a call, or cannot be reached."""


def explained(error: Exception, *, side: str = "") -> ExplainedError | None:
    """The error with its remedy, as a user gets to see it: one of ours as it is, one of botocore's translated.

    Args:
        error: any error.
        side: "source" or "lake", to name the configuration's key; empty if it is not known.

    Returns:
        None if the error is neither, so it is a defect.
    """
    if isinstance(error, ExplainedError):
        return error
    if type(error).__module__.startswith(("botocore.", "boto3.")):
        return aws_error(error, side=side)
    return None


def aws_error(error: Exception, *, side: str = "") -> AwsError:
    """Translate an error of botocore. This is the only place that does.

    The classes are recognised by their names, so that this module imports no botocore: reading `--help` needs none.

    Args:
        error: an error of botocore.
        side: as for `explained`.
    """
    profile, region = (f"{side}.profile", f"{side}.region") if side else ("the profile", "the region")
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _refused(
            response.get("Error", {}), str(getattr(error, "operation_name", "the call")), profile, region
        )
    names = {each.__name__ for each in type(error).__mro__}
    for known, message, remedy in _UNREACHABLE:
        if names & known:
            said = message.format(error=error)
            return AwsError(said, remedy=remedy.format(profile=profile, region=region))
    return AwsError(f"an AWS call failed ({type(error).__name__}): {error}")


_LOG_IN: Final = (
    "log in (`aws sso login` or `aws configure`), or set {profile} to a profile that has credentials"
)
_UNREACHABLE: Final = (
    ({"NoCredentialsError"}, "there are no AWS credentials", _LOG_IN),
    (
        {
            "PartialCredentialsError",
            "CredentialRetrievalError",
            "MetadataRetrievalError",
            "InvalidConfigError",
        },
        "the AWS credentials cannot be read ({error})",
        _LOG_IN,
    ),
    (
        {"SSOError", "TokenRetrievalError", "NoAuthTokenError", "LoginError"},
        "the AWS login has expired or is incomplete ({error})",
        "log in again (`aws sso login`), or set {profile} to another profile",
    ),
    (
        {"ProfileNotFound"},
        "{error}",
        "set {profile} to one of the profiles that `aws configure list-profiles` shows",
    ),
    ({"NoRegionError"}, "no AWS region is known", "set {region}, or the environment variable AWS_REGION"),
    (
        {"SSLError"},
        "the TLS connection to AWS failed ({error})",
        "check the proxy and the certificates that it uses; AWS_CA_BUNDLE names a bundle of your own",
    ),
    (
        {"ProxyConnectionError"},
        "the proxy to AWS does not answer ({error})",
        "check the environment variables HTTPS_PROXY and NO_PROXY",
    ),
    (
        {"ConnectionError", "HTTPClientError", "UnknownEndpointError", "InvalidRegionError"},
        "AWS cannot be reached ({error})",
        "check {region} and the network, then run it again",
    ),
)
"""Names of botocore's classes (`botocore.exceptions`), what is wrong, what to do."""

_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
_REFUSED_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
DENIED: Final = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "UnauthorizedOperation",
    }
)
"""Error codes with which the services refuse a call for want of a permission."""
_BUSY: Final = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_MISSING: Final = frozenset({"404", "NoSuchBucket", "ResourceNotFoundException"})


def _refused(said: dict[str, str], operation: str, profile: str, region: str) -> AwsError:
    code = said.get("Code", "an unknown code")
    text = " ".join(said.get("Message", "").split())
    message = f"AWS refuses {operation} ({code})" + (f": {text}" if text else "")
    if code in _EXPIRED:
        return AwsError(
            f"the AWS credentials have expired ({operation}: {code})",
            remedy=f"log in again (`aws sso login`), or set {profile} to another profile",
        )
    if code in _REFUSED_CREDENTIALS:
        remedy = f"check the credentials of {profile}, and that this machine's clock is right"
    elif code in DENIED:
        remedy = f"allow these credentials {operation}, or set {profile} to a profile that may call it"
    elif code in _BUSY:
        remedy = "run it again in some minutes"
    elif code in _MISSING:
        remedy = f"check the name, {region} and the account"
    else:
        remedy = ""
    return AwsError(message, remedy=remedy)


class LakeError(ExplainedError):
    """Base of all errors of the lake package."""


class ContractError(LakeError):
    """A name, a version or a row breaks the lake table's contract."""


class LakeTableError(LakeError):
    """The lake table, the catalogue or the checkpoint table cannot be made or is not as it must be."""


class SnapshotError(LakeError):
    """A snapshot cannot be written, read or rolled forward."""


class SnapshotBusyError(SnapshotError):
    """Somebody else is writing the snapshot just now; trying again will help."""


class OutdatedSnapshotError(SnapshotError):
    """Tables of a snapshot were made by an earlier version of dynalake, and may be wrong: they must be rebuilt."""


class DecodeError(LakeError):
    """Bytes that are not DynamoDB JSON, or that no column can hold."""


class ExportError(LakeError):
    """An export's target or format cannot be served."""
