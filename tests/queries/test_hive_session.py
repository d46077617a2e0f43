"""What a session needs no server for: its settings, what is said of errors, types, and how it logs in."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dynalake.config import Config, parse_config
from dynalake.engines import hive_settings
from dynalake.errors import ConfigError
from queries.errors import DdlError, EngineError
from queries.hive import HiveSettings, open_session
from queries.hive.messages import said
from queries.hive.nested import arrow_type, from_json
from queries.hive.settings import from_url
from tests.dynalake.accounts import command
from tests.ingest_speed.certificates import make_certificates


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hive://emr", HiveSettings("emr")),
        ("hive://ann@emr:10001/lake", HiveSettings("emr", 10001, username="ann", database="lake")),
        (
            "hive://emr/lake?auth=ldap&tls=true",
            HiveSettings("emr", auth="LDAP", password="secret", database="lake", tls=True),
        ),
        ("hive://emr?auth=KERBEROS", HiveSettings("emr", auth="KERBEROS")),
    ],
)
def test_a_url_says_where_and_how(url: str, expected: HiveSettings) -> None:
    assert from_url(url, "secret") == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "emr:10000",
        "http://emr",
        "hive://",
        "hive://emr:port",
        "hive://emr?auth=MAGIC",
        "hive://emr?x=1",
        "hive://emr?tls=maybe",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(EngineError, match="hive://"):
        from_url(url)


def test_a_password_in_a_url_is_refused_and_never_repeated() -> None:
    with pytest.raises(EngineError) as refused:
        from_url("hive://ann:s3cret@emr/lake")
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(HiveSettings("emr", auth="LDAP", password="s3cret", tls=True))


@pytest.mark.parametrize("database", ["a`b", "", "a; DROP", "a.b"])
def test_a_database_that_could_be_more_than_a_name_is_refused(database: str) -> None:
    with pytest.raises(DdlError):
        HiveSettings("emr", database=database)


def configured(**hive: Any) -> Config:
    return parse_config({"hive": hive}, "dynalake.toml")


def test_the_configuration_and_the_environment_say_how_to_log_in() -> None:
    config = configured(
        host="emr", auth="LDAP", username="ann", password_env="OURS", tls=True, configuration={"a.b": "c"}
    )
    settings = hive_settings(config, {"OURS": "secret"})

    assert settings == HiveSettings(
        "emr",
        auth="LDAP",
        username="ann",
        password="secret",
        database="lake",
        tls=True,
        configuration={"a.b": "c"},
    )
    same = hive_settings(config, {"OURS": "secret"}, "hive://emr:10001/other")
    assert (same.auth, same.username, same.port, same.database) == ("LDAP", "ann", 10001, "other")
    assert same.tls, "a URL that says nothing of it keeps it"
    with pytest.raises(EngineError, match="clear text"):
        hive_settings(config, {"OURS": "secret"}, "hive://emr?tls=false")
    assert hive_settings(config, {}, "hive://elsewhere").auth == "NONE"
    with pytest.raises(EngineError, match=r"hive\.password_env"):
        hive_settings(config, {})
    with pytest.raises(ConfigError, match=r"\[hive\]"):
        hive_settings(configured(), {})


@pytest.mark.parametrize("hive", [{"password": "x"}, {"auth": "MAGIC"}, {"port": 0}, {"database": "a b"}])
def test_a_bad_part_of_the_configuration_is_refused(hive: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"hive\."):
        configured(**hive)


def test_an_engine_that_is_not_configured_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "dynalake.toml"
    config.write_text("")
    for engine in ("hive", "athena"):
        code, _, err = command(capsys, "query", "late_flights", "--engine", engine, "--config", config)
        assert code == 2
        assert f"[{engine}]" in err
        assert err.count("\n") == 1


# What servers say


def hive_error(message: str) -> Any:
    from pyhive.exc import OperationalError
    from TCLIService.ttypes import TExecuteStatementResp, TStatus, TStatusCode

    return OperationalError(
        TExecuteStatementResp(
            TStatus(TStatusCode.ERROR_STATUS, errorMessage=message, infoMessages=["*long story"])
        )
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Error while compiling statement: FAILED: SemanticException [Error 10001]: Line 1:14 Table not found 'x'",
            "SemanticException [Error 10001]: Line 1:14 Table not found 'x'",
        ),
        (
            "Error while compiling statement: FAILED: ParseException line 1:7 cannot recognize input near 'FROM'",
            "ParseException line 1:7 cannot recognize input near 'FROM'",
        ),
        (
            "Error while processing statement: FAILED: Execution Error, return code 1 from "
            "org.apache.hadoop.hive.ql.exec.DDLTask. MetaException(message:java.lang.RuntimeException: no role)",
            "Execution Error, return code 1 from org.apache.hadoop.hive.ql.exec.DDLTask. "
            "MetaException(message:java.lang.RuntimeException: no role)",
        ),
        (
            "Error running query: [TABLE_OR_VIEW_NOT_FOUND] org.apache.spark.sql.AnalysisException: "
            "[TABLE_OR_VIEW_NOT_FOUND] The table `x` cannot be found. Verify the spelling.\nSearch path: [a].\n "
            "SQLSTATE: 42P01; line 1 pos 14;\n'Project [*]\n+- 'UnresolvedRelation [x]\n",
            "[TABLE_OR_VIEW_NOT_FOUND] The table `x` cannot be found. Verify the spelling. (line 1, position 14)",
        ),
        ("", "long story"),
        ("x" * 1000, "x" * 397 + "..."),
    ],
)
def test_a_servers_story_becomes_one_line(message: str, expected: str) -> None:
    assert said(hive_error(message)) == expected


# Types


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bigint", pa.int64()),
        ("decimal(38,9)", pa.decimal128(38, 9)),
        ("varchar(10)", pa.string()),
        ("interval day to second", pa.string()),
        ("array<struct<at:string,n:decimal(3, 2)>>",
         pa.list_(pa.struct([("at", pa.string()), ("n", pa.decimal128(3, 2))]))),
        ("map<string,array<int>>", pa.map_(pa.string(), pa.list_(pa.int32()))),
        ("struct<a:map<int,struct<b:binary>>,c:date>",
         pa.struct([("a", pa.map_(pa.int32(), pa.struct([("b", pa.binary())]))), ("c", pa.date32())])),
    ],
)  # fmt: skip
def test_a_servers_type_is_an_arrow_type(text: str, expected: pa.DataType) -> None:
    assert arrow_type(text) == expected


@pytest.mark.parametrize("text", ["array<int", "map<int>", "struct<a:int", "int>", "struct<a"])
def test_a_type_that_is_broken_is_an_error(text: str) -> None:
    with pytest.raises(EngineError):
        arrow_type(text)


def test_json_keeps_every_digit_and_every_type() -> None:
    kind = arrow_type("array<struct<d:decimal(38,20),b:binary,f:double,m:map<int,boolean>>>")
    text = '[{"d":123456789012345678.12345678901234567890,"b":"AP8=","f":"NaN","m":{"7":true}},{},null]'
    (rows,) = from_json([text], kind).to_pylist()

    assert str(rows[0]["d"]) == "123456789012345678.12345678901234567890"
    assert rows[0]["b"] == b"\x00\xff"
    assert rows[0]["f"] != rows[0]["f"]
    assert rows[0]["m"] == [(7, True)]
    assert rows[1] == {"d": None, "b": None, "f": None, "m": None}
    assert rows[2] is None


# Logging in, against a stub that speaks SASL and refuses


class SaslStub(threading.Thread):
    """Reads what a client says in SASL PLAIN, and refuses it as a server does with a wrong password."""

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(daemon=True)
        self._certificate = certificate
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.said: list[tuple[int, bytes]] = []

    def run(self) -> None:
        client, _ = self.listening.accept()
        if self._certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self._certificate)
            try:
                client = tls.wrap_socket(client, server_side=True)
            except OSError:  # the client does not trust the certificate
                return
        with client:
            for _ in range(2):  # the mechanism, then the login
                head = self._read(client, 5)
                if len(head) < 5:
                    return
                status, length = struct.unpack(">BI", head)
                self.said.append((status, self._read(client, length)))
            reason = b"Error validating the login"
            client.sendall(struct.pack(">BI", 3, len(reason)) + reason)

    @staticmethod
    def _read(client: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length and (more := client.recv(length - len(data))):
            data += more
        return data


@pytest.mark.parametrize(
    ("auth", "password", "expected"), [("LDAP", "pässword", "pässword"), ("NONE", None, "x")]
)
def test_name_and_password_reach_the_server_and_a_refusal_is_not_tried_again(
    auth: Any, password: str | None, expected: str
) -> None:
    stub = SaslStub()
    stub.start()
    settings = HiveSettings(
        "127.0.0.1", stub.port, auth=auth, username="ann", password=password, allow_plain_password=True
    )
    with pytest.raises(EngineError) as refused:
        open_session(settings, sleep=lambda _: pytest.fail("tried again"))

    assert stub.said[0] == (1, b"PLAIN")
    assert stub.said[1][1] == b"\x00ann\x00" + expected.encode()
    assert f"refuses the login of ann with {auth}" in str(refused.value)
    assert "Error validating the login" in str(refused.value)
    assert "pässword" not in str(refused.value)


def test_ldap_without_tls_is_refused_unless_it_is_allowed() -> None:
    clear = pytest.raises(EngineError, match=r"clear text.*hive\.tls")
    with clear:
        HiveSettings("emr", auth="LDAP", password="secret")
    with clear:
        from_url("hive://emr?auth=LDAP", "secret")
    with clear:
        hive_settings(configured(host="emr", auth="LDAP"), {"DYNALAKE_HIVE_PASSWORD": "secret"})
    allowed = configured(host="emr", auth="LDAP", allow_plain_password=True)
    assert hive_settings(allowed, {"DYNALAKE_HIVE_PASSWORD": "secret"}).password == "secret"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_that_is_not_trusted_or_of_another_host_gets_no_password(
    tmp_path: Path, host: str
) -> None:
    authority, certificate = make_certificates(tmp_path, "127.0.0.1")
    stub = SaslStub(certificate)
    stub.start()
    ca = str(authority) if host == "localhost" else None
    settings = HiveSettings(
        host, stub.port, auth="LDAP", username="ann", password="secret", tls=True, tls_ca=ca
    )
    with pytest.raises(EngineError, match=r"is not trusted.*hive\.tls_ca"):
        open_session(settings, sleep=lambda _: pytest.fail("tried again"))
    stub.join()
    assert stub.said == []


def test_over_tls_the_login_reaches_the_server(tmp_path: Path) -> None:
    authority, certificate = make_certificates(tmp_path, "127.0.0.1")
    stub = SaslStub(certificate)
    stub.start()
    settings = HiveSettings(
        "127.0.0.1",
        stub.port,
        auth="LDAP",
        username="ann",
        password="secret",
        tls=True,
        tls_ca=str(authority),
    )
    with pytest.raises(EngineError, match="refuses the login of ann"):
        open_session(settings, sleep=lambda _: pytest.fail("tried again"))
    assert stub.said[1][1] == b"\x00ann\x00secret"


def test_a_server_without_tls_and_a_file_without_certificates_are_told(tmp_path: Path) -> None:
    stub = SaslStub()
    stub.start()
    settings = HiveSettings(
        "127.0.0.1", stub.port, auth="LDAP", password="secret", tls=True, connect_timeout_s=0.5
    )
    with pytest.raises(EngineError, match=r"does not answer with TLS.*hive\.server2\.use\.SSL"):
        open_session(settings, sleep=lambda _: pytest.fail("tried again"))
    stub.join()
    assert all(b"secret" not in words for _, words in stub.said)
    for content in (None, "no certificate"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(EngineError, match=r"hive\.tls_ca = .*ca\.pem"):
            open_session(HiveSettings("127.0.0.1", 1, tls=True, tls_ca=str(file)))


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = HiveSettings("127.0.0.1", silent.getsockname()[1], login_timeout_s=0.2)
        with pytest.raises(EngineError, match="does not answer"):
            open_session(settings, sleep=lambda _: None)
