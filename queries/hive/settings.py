"""Where a HiveServer2 is and how to log in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from queries.ddl.identifiers import object_name
from queries.errors import EngineError

Auth = Literal["NONE", "NOSASL", "LDAP", "KERBEROS"]
"""The server's `hive.server2.authentication`."""

DEFAULT_PORT: Final = 10_000
_URL: Final = "hive://[user@]host[:port][/database][?auth=NONE|NOSASL|LDAP|KERBEROS][&tls=true]"


@dataclass(frozen=True, slots=True)
class HiveSettings:
    """Where a HiveServer2 is and how to log in.

    Attributes:
        host: its host.
        port: its port.
        auth: how it authenticates.
        username: who asks; the process's user if None.
        password: for LDAP; never shown.
        database: the database that unqualified names mean.
        kerberos_service_name: the first part of the server's principal, for KERBEROS.
        configuration: Hive settings for the session, such as `hive.exec.parallel`.
        tls: whether the connection is encrypted and the server's certificate verified
            (`hive.server2.use.SSL` on the server).
        tls_ca: a PEM file with the certificate authorities to trust; the system's if None.
        allow_plain_password: whether an LDAP password may travel without TLS.
        connect_timeout_s: how long a connection may take to be made.
        login_timeout_s: how long each answer of the login may take; some servers start machines first.
    """

    host: str
    port: int = DEFAULT_PORT
    auth: Auth = "NONE"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = "default"
    kerberos_service_name: str = "hive"
    configuration: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    tls_ca: str | None = None
    allow_plain_password: bool = False
    connect_timeout_s: float = 10.0
    login_timeout_s: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what the client would send on unchecked, or fail on in its own words."""
        object_name(self.database, "database")
        if self.auth == "LDAP" and not self.password:
            raise EngineError(
                f"the server {self.host}:{self.port} wants LDAP, and there is no password",
                remedy="set the environment variable that hive.password_env names (DYNALAKE_HIVE_PASSWORD by default)",
            )

        if self.auth == "LDAP" and not self.tls and not self.allow_plain_password:
            raise EngineError(
                f"LDAP would send the password to {self.host}:{self.port} in clear text",
                remedy="set hive.tls = true (in a URL "
                "?auth=LDAP&tls=true), or allow it with hive.allow_plain_password = true where the connection is "
                "protected otherwise, such as by an SSH tunnel",
            )

    @property
    def address(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}"

    def at(self, url: str, password: str | None = None) -> HiveSettings:
        """These settings with what a URL says instead; see `from_url`."""
        said = _parsed(url)
        auth = said.get("auth", self.auth)
        return replace(
            self,
            **{**said, "auth": auth, "password": (password or self.password) if auth == "LDAP" else None},
        )


def from_url(url: str, password: str | None = None) -> HiveSettings:
    """The settings that `hive://user@host:port/database?auth=LDAP&tls=true` says.

    Args:
        url: the URL. A password in it is refused: other users of the machine see the command line.
        password: for LDAP.

    Raises:
        EngineError: the URL is invalid, or asks for LDAP without TLS.
    """
    said = _parsed(url)
    return HiveSettings(**said, password=password if said.get("auth") == "LDAP" else None)


def _parsed(url: str) -> dict[str, Any]:
    """What a URL says, by the settings' names; what it does not say is absent, but for the port."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise EngineError(
            f"{url!r} is not the address of a server ({error})", remedy=f"write {_URL}"
        ) from None
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    auth = asked.pop("auth", "").upper()
    tls = asked.pop("tls", "")
    known = auth in ("", *get_args(Auth)) and tls in ("", "true", "false")
    if parts.scheme != "hive" or not parts.hostname or asked or not known:
        raise EngineError(f"{url!r} is not the address of a server", remedy=f"write {_URL}")
    if parts.password is not None:
        raise EngineError(
            "a password in a URL can be seen by others",
            remedy="set DYNALAKE_HIVE_PASSWORD instead",
        )
    said = {
        "auth": auth,
        "tls": tls and tls == "true",
        "username": unquote(parts.username or ""),
        "database": parts.path.strip("/"),
    }
    return {
        "host": parts.hostname,
        "port": port,
        **{name: value for name, value in said.items() if value != ""},
    }
