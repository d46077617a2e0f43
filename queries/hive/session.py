"""A session on a HiveServer2: statements with progress, cancelled on the server when interrupted.

Every call to the server is made by one thread of the session's own. An interrupt (Ctrl-C) then reaches the thread
that waits and never breaks a message off in the middle, so the same connection can still tell the server to stop.

What is retried: opening a session, and nothing else. A statement that was sent may have run.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import pyarrow as pa

from queries.ddl.identifiers import quoted
from queries.errors import EngineError
from queries.hive.columns import arrow_array, arrow_field, texts_of
from queries.hive.messages import said
from queries.hive.nested import arrow_type, from_json
from queries.hive.settings import HiveSettings

T = TypeVar("T")

BATCH_ROWS: Final = 10_000
"""Rows asked for at once; the server may send fewer."""

ATTEMPTS: Final = 3
_FIRST_PAUSE_S: Final = 0.5
_POLL_FIRST_S: Final = 0.02
_POLL_MOST_S: Final = 1.0
_CANCEL_WAIT_S: Final = 10.0
_DBMS_NAME: Final = 17
"""TGetInfoType.CLI_DBMS_NAME."""

_WAITING: Final = frozenset({"INITIALIZED_STATE", "RUNNING_STATE", "PENDING_STATE"})
_MOMENT: Final = "'yyyy-MM-dd HH:mm:ss.SSSSSS'"
_JSON_OPTIONS: Final = f"map('timestampFormat', {_MOMENT}, 'timestampNTZFormat', {_MOMENT})"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a statement is.

    Attributes:
        seconds: since it was sent.
        state: "waiting", "running" or "fetching".
        percent: what the server says is done; None where it does not say.
        log: the last line of the server's log of this statement; empty where there is none.
        rows: rows that have arrived.
    """

    seconds: float
    state: str
    percent: float | None = None
    log: str = ""
    rows: int = 0


OnProgress = Callable[[Progress], None]


class HiveSession:
    """A session. Close it, or use it in a `with` block; made by `open_session`."""

    def __init__(
        self,
        connection: Any,
        settings: HiveSettings,
        calls: ThreadPoolExecutor,
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `open_session`."""
        self._connection, self.settings, self._calls = connection, settings, calls
        self._sleep, self._monotonic = sleep, monotonic
        self._server: str | None = None

    @property
    def server(self) -> str:
        """What the server calls itself: "Apache Hive", "Spark SQL"."""
        if self._server is None:
            self._server = self._call(self._ask_name)
        return self._server

    @property
    def is_spark(self) -> bool:
        """Whether this is Spark's Thrift server."""
        return "spark" in self.server.lower()

    def execute(self, statement: str, on_progress: OnProgress = lambda _: None) -> None:
        """Run a statement to its end; what it answers is dropped.

        Raises:
            EngineError: the server refuses it, or fails; the text is the server's message.
        """
        with self._running(statement, on_progress):
            pass

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """What a small statement answers, such as DESCRIBE: each row by column name."""
        with self.stream(statement, nested=False) as answer:
            return [row for batch in answer for row in batch.to_pylist()]

    @contextlib.contextmanager
    def stream(
        self, query: str, on_progress: OnProgress = lambda _: None, *, nested: bool = True
    ) -> Iterator[pa.RecordBatchReader]:
        """Run a query and read its answer batch by batch while the context lasts.

        Interrupted, or left before its end, it is cancelled on the server. Of Spark's Thrift server nested columns
        have their exact types; HiveServer2 itself sends them as JSON text, and text they stay.

        Args:
            query: a SELECT, without a closing semicolon.
            on_progress: called at every look at the server, and after every batch.
            nested: whether to ask Spark for nested types first.

        Raises:
            EngineError: the server refuses it, or fails; the text is the server's message.
        """
        kinds = self._nested_columns(query) if nested and self.is_spark else {}
        if kinds:
            query = _with_json(query, kinds)
        with self._running(query, on_progress) as cursor:
            fields = [
                pa.field(
                    field.name, arrow_type(kinds[field.name]) if _is_nested(kinds, field) else field.type
                )
                for field in self._call(lambda: _fields(cursor))
            ]
            nested_at = {at for at, field in enumerate(fields) if _is_nested(kinds, field)}
            schema = pa.schema(fields)
            batches = self._batches(cursor, schema, nested_at, on_progress)
            yield pa.RecordBatchReader.from_batches(schema, batches)

    def close(self) -> None:
        """End the session on the server; a server that is gone already is no error here."""
        with contextlib.suppress(Exception):
            self._call(self._connection.close)
        self._calls.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _running(self, statement: str, on_progress: OnProgress) -> Iterator[Any]:
        """The cursor of a statement that has run to its end; cancelled if anything stops it before."""
        cursor = self._connection.cursor(arraysize=BATCH_ROWS)
        try:
            self._call(lambda: cursor.execute(statement, async_=True))
            self._wait(cursor, on_progress)
            yield cursor
        except EngineError:
            raise  # it has failed, so there is nothing to stop
        except BaseException:
            self._cancel(cursor)
            raise
        finally:
            with contextlib.suppress(Exception):
                self._call(cursor.close)

    def _wait(self, cursor: Any, on_progress: OnProgress) -> None:
        began, pause, log = self._monotonic(), _POLL_FIRST_S, ""
        while True:
            answer = self._call(cursor.poll)
            state = _state(answer)
            log = self._call(lambda: _last_log(cursor)) or log
            if state not in _WAITING:
                break
            shown = "running" if state == "RUNNING_STATE" else "waiting"
            on_progress(Progress(self._monotonic() - began, shown, _percent(answer), log))
            self._sleep(pause)
            pause = min(pause * 1.5, _POLL_MOST_S)
        if state == "CANCELED_STATE":
            raise EngineError(f"{self.settings.address} cancelled the statement: {said(answer)}")
        if state != "FINISHED_STATE":
            raise EngineError(f"{self.settings.address} says: {said(answer)}")

    def _batches(
        self, cursor: Any, schema: pa.Schema, nested_at: set[int], on_progress: OnProgress
    ) -> Iterator[pa.RecordBatch]:
        began, rows = self._monotonic(), 0
        # A server may say that there are no more rows when there are: only an empty answer is the end.
        while (columns := self._call(lambda: _fetch(cursor))) is not None:
            arrays = [
                from_json(texts_of(column), field.type)
                if at in nested_at
                else arrow_array(column, field.type)
                for at, (column, field) in enumerate(zip(columns, schema, strict=True))
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            rows += batch.num_rows
            on_progress(Progress(self._monotonic() - began, "fetching", None, "", rows))
            yield batch

    def _cancel(self, cursor: Any) -> None:
        """Tell the server to stop, and wait until it says so: what runs on unseen costs money and locks.

        It is told over a connection of its own, since on this one a look at the statement may be on its way, which a
        server answers only after seconds (`hive.server2.long.polling.timeout`). A handle is good on any connection.
        """
        if cursor._operationHandle is None:
            with contextlib.suppress(Exception):
                self._call(
                    lambda: None
                )  # what was interrupted may be the start: then its handle is on its way
        handle = cursor._operationHandle
        if handle is None:
            return
        try:
            self._tell_to_stop(handle)
        except Exception:
            with contextlib.suppress(Exception):
                self._call(cursor.cancel)
        with contextlib.suppress(Exception):
            until = self._monotonic() + _CANCEL_WAIT_S
            while _state(self._call(cursor.poll)) in _WAITING and self._monotonic() < until:
                self._sleep(_POLL_FIRST_S)

    def _tell_to_stop(self, handle: Any) -> None:
        from pyhive import hive
        from TCLIService import TCLIService
        from TCLIService.ttypes import TCancelOperationReq
        from thrift.protocol.TBinaryProtocol import TBinaryProtocol

        transport, _ = _transport(hive, self.settings)
        transport.open()
        try:
            TCLIService.Client(TBinaryProtocol(transport)).CancelOperation(TCancelOperationReq(handle))
        finally:
            transport.close()

    def _nested_columns(self, query: str) -> dict[str, str]:
        """Column -> type of each nested column, as Spark's analyser has it; empty where none is nested."""
        described = {row["col_name"]: row["data_type"] for row in self.rows(f"DESCRIBE QUERY {query}")}
        nested = any(kind.startswith(("array<", "map<", "struct<")) for kind in described.values())
        return described if nested else {}

    def _ask_name(self) -> str:
        from TCLIService.ttypes import TGetInfoReq

        answer = self._connection.client.GetInfo(TGetInfoReq(self._connection.sessionHandle, _DBMS_NAME))
        return str(answer.infoValue.stringValue) if answer.infoValue is not None else ""

    def _call(self, call: Callable[[], T]) -> T:
        """Make a call in the session's thread; what the server refuses becomes an EngineError."""
        from pyhive.exc import Error
        from thrift.Thrift import TException

        try:
            return self._calls.submit(call).result()
        except Error as error:
            raise EngineError(f"{self.settings.address} says: {said(error)}") from error
        except (TException, OSError, EOFError) as error:
            raise EngineError(
                f"the connection to {self.settings.address} broke ({error}): whether the statement "
                "has run is not known",
                remedy="run a query again; before DDL, look at what exists",
            ) from error


def open_session(
    settings: HiveSettings,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> HiveSession:
    """Log in; tried again where no connection could be made, since nothing has been asked then.

    Raises:
        EngineError: PyHive is not installed, no server answers, or it refuses the login.
    """
    try:
        from pyhive import hive
        from pyhive.exc import Error
        from thrift.Thrift import TException
        from thrift.transport.TTransport import TTransportException
    except ImportError as missing:
        raise EngineError(
            f"this needs PyHive ({missing})", remedy="run `pip install 'dynalake[hive]'`"
        ) from None
    calls = ThreadPoolExecutor(1, thread_name_prefix="hive")
    logging.getLogger("thrift").setLevel(logging.CRITICAL)  # what it logs is raised too, and said in one line
    pause = _FIRST_PAUSE_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            connection = calls.submit(lambda: _connect(hive, settings)).result()
            return HiveSession(connection, settings, calls, sleep=sleep, monotonic=monotonic)
        except EngineError:
            calls.shutdown(wait=False)
            raise
        except ConnectionError as error:
            if attempt == ATTEMPTS:
                calls.shutdown(wait=False)
                raise EngineError(
                    f"no HiveServer2 answers at {settings.address} ({ATTEMPTS} attempts)",
                    remedy="check hive.host and hive.port, and that the server runs",
                ) from error
            sleep(pause)
            pause *= 2
        except TTransportException as error:
            calls.shutdown(wait=False)
            if error.type == TTransportException.TIMED_OUT or isinstance(error.inner, TimeoutError):
                raise EngineError(
                    f"{settings.address} takes the connection and does not answer",
                    remedy=f"check that it is a HiveServer2 in binary mode, and that {settings.auth} is its "
                    "authentication",
                ) from error
            # Not tried again: a directory locks who is refused too often.
            raise EngineError(
                f"{settings.address} refuses the login of {settings.username or 'this user'} with "
                f"{settings.auth}: {' '.join(str(error).split())}"
            ) from error
        except (Error, TException, OSError, EOFError, AssertionError, ImportError, ValueError) as error:
            calls.shutdown(wait=False)
            raise EngineError(f"{settings.address} says: {said(error)}") from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _tls_context(settings: HiveSettings) -> ssl.SSLContext:
    """What verifies the server: its chain, and its name."""
    try:
        return ssl.create_default_context(cafile=settings.tls_ca)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise EngineError(
            f"hive.tls_ca = {settings.tls_ca!r} cannot be read as PEM certificates ({error})",
            remedy="name the file of your certificate authority",
        ) from error


def _no_tls(settings: HiveSettings, error: OSError) -> str:
    """Why no encrypted connection could be made, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {settings.address} is not trusted ({error.verify_message}): if it is your company's "
            "own, let hive.tls_ca name the PEM file of its certificate authority"
        )
    return (
        f"{settings.address} does not answer with TLS ({getattr(error, 'reason', error)}): switch it on at the server "
        "(hive.server2.use.SSL), or set hive.tls = false"
    )


def _connect(hive: Any, settings: HiveSettings) -> Any:
    """PyHive's connection; ConnectionError where nobody took the call, so that nothing can have been asked."""
    from thrift.transport.TTransport import TTransportException

    transport, socket = _transport(hive, settings)
    try:
        connection = hive.Connection(
            thrift_transport=transport,
            username=settings.username,
            database=settings.database,
            configuration=dict(settings.configuration),
        )
    except TTransportException as error:
        if socket.was_open:
            raise
        raise ConnectionError(str(error)) from error
    socket.setTimeout(None)  # a statement may take its time
    return connection


def _transport(hive: Any, settings: HiveSettings) -> tuple[Any, Any]:
    """The transport as PyHive makes it, and its socket, with limits to how long connecting and logging in take."""
    import getpass

    from thrift.transport.TSocket import TSocket
    from thrift.transport.TTransport import TBufferedTransport

    class Socket(TSocket):  # type: ignore[misc]  # thrift has no types
        was_open = False

        def open(self) -> None:
            self.setTimeout(settings.connect_timeout_s * 1000)
            super().open()
            if tls is not None:
                try:
                    self.handle: Any = tls.wrap_socket(self.handle, server_hostname=settings.host)
                except OSError as error:  # an SSLError is an OSError
                    raise EngineError(_no_tls(settings, error)) from error
            self.was_open = True
            self.setTimeout(settings.login_timeout_s * 1000)

    tls = _tls_context(settings) if settings.tls else None
    socket = Socket(settings.host, settings.port)
    if settings.auth == "NOSASL":
        return TBufferedTransport(socket), socket
    import thrift_sasl

    mechanism = "GSSAPI" if settings.auth == "KERBEROS" else "PLAIN"
    options = {
        "host": settings.host,
        "sasl_auth": mechanism,
        "service": settings.kerberos_service_name if settings.auth == "KERBEROS" else None,
        "username": settings.username or getpass.getuser(),
        "password": settings.password or "x",  # PLAIN wants one, and NONE does not look at it
    }
    sasl = thrift_sasl.TSaslClientTransport(lambda: hive.get_installed_sasl(**options), mechanism, socket)
    return sasl, socket


def _with_json(query: str, kinds: dict[str, str]) -> str:
    """The query with its nested columns as JSON; Spark keeps the order of a sorted subquery."""
    columns = ", ".join(
        f"to_json({quoted(name)}, {_JSON_OPTIONS}) AS {quoted(name)}"
        if kind.startswith(("array<", "map<", "struct<"))
        else quoted(name)
        for name, kind in kinds.items()
    )
    return f"SELECT {columns} FROM (\n{query}\n) AS answer"


def _is_nested(kinds: dict[str, str], field: pa.Field) -> bool:
    return kinds.get(field.name, "").startswith(("array<", "map<", "struct<"))


def _state(answer: Any) -> str:
    from TCLIService.ttypes import TOperationState

    return str(TOperationState._VALUES_TO_NAMES.get(answer.operationState, "UKNOWN_STATE"))


def _percent(answer: Any) -> float | None:
    update = answer.progressUpdateResponse
    done = None if update is None else update.progressedPercentage
    return None if done is None else round(100 * done, 1)


def _last_log(cursor: Any) -> str:
    """The newest line of the operation's log; a server that keeps none is no error."""
    try:
        lines = cursor.fetch_logs()
    except Exception:
        return ""
    return str(lines[-1]).strip() if lines else ""


def _fields(cursor: Any) -> list[pa.Field]:
    from TCLIService.ttypes import TGetResultSetMetadataReq

    client, handle = cursor._connection.client, cursor._operationHandle
    if not handle.hasResultSet:
        return []
    answer = client.GetResultSetMetadata(TGetResultSetMetadataReq(handle))
    return [arrow_field(column) for column in answer.schema.columns]


def _fetch(cursor: Any) -> list[Any] | None:
    """The next columns; None at the end."""
    from pyhive.exc import OperationalError
    from TCLIService.ttypes import TFetchOrientation, TFetchResultsReq, TStatusCode

    handle = cursor._operationHandle
    if not handle.hasResultSet:
        return None
    request = TFetchResultsReq(handle, TFetchOrientation.FETCH_NEXT, cursor.arraysize)
    answer = cursor._connection.client.FetchResults(request)
    if answer.status.statusCode not in (TStatusCode.SUCCESS_STATUS, TStatusCode.SUCCESS_WITH_INFO_STATUS):
        raise OperationalError(answer)
    columns = answer.results.columns or []
    first = next((part for part in vars(columns[0]).values() if part is not None), None) if columns else None
    return columns if first is not None and first.values else None
