"""Where Redis is: the `redis_broker` URL of the configuration as data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl

MASK: Final = "***"
"""In place of a secret."""

_SCHEMES: Final = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis-socket": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_DEFAULT_PORTS: Final = {"single": 6379, "unix": 0, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Tls:
    """How to know a server, and what to show it: paths of PEM files, or None for the system's, and for nothing."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Made from the files as they are now. Takes some 50 ms with the system's authorities.

        Raises:
            OSError: a file cannot be read, or holds something else.
        """
        import ssl  # 2 MB, for those who ask for it

        context = ssl.create_default_context(cafile=self.ca_certs)
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        context.check_hostname = self.check_hostname and self.verify
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Broker:
    """Where and how to connect.

    `kind` is single, unix, sentinel or cluster; `hosts` the server, the sentinels or the nodes to begin with; `path`
    the socket of a unix one; `service` the master's name at the sentinels.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    service: str = ""
    tls: Tls | None = None
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)

    def describe(self) -> str:
        """One line for a log, without secrets."""
        if self.kind == "unix":
            return f"Redis at {self.path}, database {self.db}"
        hosts = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        tls = " over TLS" if self.tls is not None else ""
        if self.kind == "sentinel":
            return f"Redis master {self.service!r} by the sentinels at {hosts}{tls}, database {self.db}"
        if self.kind == "cluster":
            return f"Redis cluster at {hosts}{tls}"
        return f"Redis at {hosts}{tls}, database {self.db}"


def parse_broker(url: str) -> Broker:
    """A `redis_broker` URL.

    `redis://pwd@host:port/db` carries a password alone, as chihaya has it; `redis://user:pwd@host` means what it
    says. `unix://pwd@/path?db=0`, `redis+sentinel://host:port,host:port/service/db`,
    `redis+cluster://host:port,host:port`; `rediss` in place of `redis` is TLS, with `ssl_ca_certs`, `ssl_certfile`,
    `ssl_keyfile`, `ssl_check_hostname` and `ssl_cert_reqs` (`required`, `none`) in the query.

    Raises:
        ValueError: with what is wrong, never with the password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"expected a URL of one of {', '.join(s + '://' for s in _SCHEMES)}")
    kind, secure = _SCHEMES[scheme]
    # By hand, since the host part may list several servers: urlsplit reads them as one, or refuses them.
    rest, _, options = rest.partition("#")[0].partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, listed = authority.rpartition("@")
    username, password = _credentials(credentials)
    query = _query(options, _TLS_OPTIONS if secure else (), kind)
    tls = _tls(query) if secure else None
    if kind == "unix":
        if not slash or listed:
            raise ValueError("expected the absolute path of a socket, as in unix:///run/redis/redis.sock")
        return Broker(kind, (), unquote(slash + path), username, password, _db(query.get("db", "0")))
    hosts = tuple(_host(text, _DEFAULT_PORTS[kind]) for text in listed.split(","))
    if kind == "single" and len(hosts) > 1:
        raise ValueError("expected one host; several need redis+sentinel:// or redis+cluster://")
    names = [unquote(part) for part in path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not names:
            raise ValueError("expected the master's name, as in redis+sentinel://host:26379/mymaster/0")
        service = names.pop(0)
    if kind == "cluster" and names not in ([], ["0"]):
        raise ValueError("expected no database: a cluster has only database 0")
    db = _db(names[0] if names else query.get("db", "0"))
    return Broker(
        kind,
        hosts,
        "",
        username,
        password,
        db,
        service,
        tls,
        query.get("sentinel_username", ""),
        query.get("sentinel_password", ""),
    )


def _credentials(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    return (unquote(name), unquote(password)) if colon else ("", unquote(name))


def _query(text: str, tls_options: tuple[str, ...], kind: str) -> dict[str, str]:
    known = {"db", *tls_options, *(_SENTINEL_OPTIONS if kind == "sentinel" else ())}
    query = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
    for name in query:
        if name not in known:
            raise ValueError(f"unknown option {name!r} in the query; known: {', '.join(sorted(known))}")
    return query


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit("x://" + text)
        port = parts.port
        if port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("expected a port from 1 to 65535") from None
    if not parts.hostname:
        raise ValueError("expected a host")
    return parts.hostname, default_port if port is None else port


def _db(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("expected a database number")
    return int(text)


def _tls(query: dict[str, str]) -> Tls:
    requirement = query.get("ssl_cert_reqs", "required")
    if requirement not in ("required", "none"):
        raise ValueError("expected required or none for ssl_cert_reqs")
    tls = Tls(
        query.get("ssl_ca_certs"),
        query.get("ssl_certfile"),
        query.get("ssl_keyfile"),
        query.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no"),
        requirement == "required",
    )
    try:
        tls.context()
    except OSError as error:
        raise ValueError(f"cannot load the TLS certificates: {error}") from None
    return tls


def redacted(url: str) -> str:
    """A broker URL without its passwords; one before the host without a user is a password, as chihaya has it."""
    scheme, separator, rest = re.sub(r"(sentinel_password=)[^&]*", rf"\1{MASK}", url).partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user + colon if colon else ''}{MASK if at else ''}{at}{host}"
