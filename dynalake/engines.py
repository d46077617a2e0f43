"""Where a named query can run: on a snapshot, on HiveServer2 or Spark's Thrift server, on Athena."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dynalake.config import Config
from dynalake.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from queries.hive import HiveSettings
    from queries.named import NamedQuery

Engine = Literal["duckdb", "hive", "athena"]


@contextlib.contextmanager
def answer(
    query: NamedQuery,
    parameters: Mapping[str, object],
    engine: Engine,
    *,
    lake: Path,
    config: Callable[[], Config],
    environment: Mapping[str, str],
    url: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[pa.RecordBatchReader]:
    """Run a query and read its answer batch by batch while the context lasts.

    Args:
        query: from `load_query`.
        parameters: values by name; what is missing takes its default.
        engine: where.
        lake: the snapshot, for duckdb.
        config: gives the configuration, for hive and athena; asked only then.
        environment: the process's environment, where a password may be.
        url: where HiveServer2 is, instead of what the configuration says.
        on_progress: called now and then with what to show a person who waits.

    Raises:
        ConfigError: the configuration says nothing of the engine.
        QueryError: a parameter is wrong, or the engine refuses the query.
        SnapshotError: there is no snapshot.
    """
    if engine == "duckdb":
        from lake.open import open_lake
        from queries.run import run_on_duckdb

        with open_lake(lake) as opened:
            yield run_on_duckdb(query, opened.connection, parameters).to_reader()
    elif engine == "hive":
        with _on_hive(query, parameters, hive_settings(config(), environment, url), on_progress) as reader:
            yield reader
    else:
        with _on_athena(query, parameters, config(), on_progress) as reader:
            yield reader


def hive_settings(config: Config, environment: Mapping[str, str], url: str | None = None) -> HiveSettings:
    """How to log in to HiveServer2: as the configuration says, or as a URL says instead.

    Raises:
        ConfigError: neither says where the server is.
        EngineError: the URL is none, or there is no password where one is needed.
    """
    from queries.hive.settings import from_url

    said = config.hive
    password = environment.get(said.password_env) or None
    if url is not None:
        there = from_url(url, password)
        return there if there.host != said.host else _configured(config, password).at(url, password)
    if said.host is None:
        raise ConfigError(
            "the configuration names no HiveServer2",
            remedy='add a part [hive] with host = "..." (see docs/configuration.md), or give --engine duckdb',
        )
    return _configured(config, password)


def _configured(config: Config, password: str | None) -> HiveSettings:
    from queries.hive.settings import HiveSettings

    said = config.hive
    return HiveSettings(
        host=said.host or "",
        port=said.port,
        auth=said.auth,
        username=said.username,
        password=password if said.auth == "LDAP" else None,
        database=said.database,
        kerberos_service_name=said.kerberos_service_name,
        configuration=said.configuration,
        tls=said.tls,
        tls_ca=said.tls_ca,
        allow_plain_password=said.allow_plain_password,
    )


@contextlib.contextmanager
def _on_hive(
    query: NamedQuery,
    parameters: Mapping[str, object],
    settings: HiveSettings,
    on_progress: Callable[[str], None],
) -> Iterator[pa.RecordBatchReader]:
    from queries.hive import Progress, open_session
    from queries.transpile import transpile

    def show(progress: Progress) -> None:
        done = "" if progress.percent is None else f", {progress.percent:g} %"
        rows = f", {progress.rows:,} rows" if progress.rows else ""
        log = f": {progress.log}" if progress.log else ""
        on_progress(f"{settings.address} {progress.state} {progress.seconds:.0f} s{done}{rows}{log}")

    transpile(query, "hive", parameters)  # a mistake in a parameter is said before anybody is called
    on_progress(f"{settings.address} logging in")
    with open_session(settings) as session:
        sql = transpile(query, "spark" if session.is_spark else "hive", parameters)
        with session.stream(sql, show) as reader:
            yield reader


@contextlib.contextmanager
def _on_athena(
    query: NamedQuery,
    parameters: Mapping[str, object],
    config: Config,
    on_progress: Callable[[str], None],
) -> Iterator[pa.RecordBatchReader]:
    import boto3

    from queries.athena import AthenaProgress, AthenaSettings, stream_on_athena
    from queries.transpile import transpile

    said = config.athena
    if said is None:
        raise ConfigError(
            "the configuration has no part for Athena",
            remedy='add a part [athena] with region = "..." (see docs/configuration.md)',
        )

    def show(progress: AthenaProgress) -> None:
        on_progress(
            f"Athena {progress.state.lower()} {progress.seconds:.0f} s, {progress.scanned:,} bytes read"
        )

    sql = transpile(query, "athena", parameters)
    session = boto3.Session(profile_name=said.profile, region_name=said.region)
    client = session.client("athena", endpoint_url=said.endpoint_url)
    settings = AthenaSettings(said.database, said.workgroup, said.output, said.catalog, said.output_owner)
    with stream_on_athena(client, settings, sql, show) as reader:
        yield reader
