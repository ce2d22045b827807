"""The `redis_broker` URL, and the stores that it leads to: passwords, users, sockets, databases."""

from __future__ import annotations

import pytest

from tests.conftest import StoreServers
from tests.storage.contract import SEEDER, STARTED, announce, ask, hash_of
from tests.support.servers import StoreServer
from tests.support.stores import redis_store
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.greeting import connect
from udptracker.redis.link import Timeouts
from udptracker.redis.url import Broker, parse_broker


class TestParsing:
    @pytest.mark.parametrize(
        ("url", "broker"),
        [
            ("redis://127.0.0.1", Broker("single", (("127.0.0.1", 6379),))),
            ("redis://pwd@127.0.0.1:6380/3", Broker("single", (("127.0.0.1", 6380),), password="pwd", db=3)),
            ("redis://:pwd@host", Broker("single", (("host", 6379),), password="pwd")),
            ("redis://user:p%40d@host", Broker("single", (("host", 6379),), username="user", password="p@d")),
            ("redis://[::1]:7000?db=2", Broker("single", (("::1", 7000),), db=2)),
            ("unix:///run/redis.sock", Broker("unix", (), "/run/redis.sock")),
            ("unix://pwd@/run/a%20b?db=4", Broker("unix", (), "/run/a b", password="pwd", db=4)),
            (
                "redis+sentinel://u:p@a:1,b/main/5?sentinel_username=x&sentinel_password=y",
                Broker("sentinel", (("a", 1), ("b", 26379)), "", "u", "p", 5, "main", None, "x", "y"),
            ),
            ("redis+cluster://a:1,b:2,[::1]:3/0", Broker("cluster", (("a", 1), ("b", 2), ("::1", 3)))),
        ],
    )
    def test_of_each_kind(self, url: str, broker: Broker) -> None:
        assert parse_broker(url) == broker

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("127.0.0.1:6379", "expected a URL"),
            ("http://host", "expected a URL"),
            ("redis://", "expected a host"),
            ("redis://a:1,b:2", "one host"),
            ("redis://host:99999", "port from 1 to 65535"),
            ("redis://host:0", "port from 1 to 65535"),
            ("redis://host:port", "port from 1 to 65535"),
            ("redis://host/first", "database number"),
            ("redis://host?colour=red", "unknown option 'colour'"),
            ("redis://host?ssl_ca_certs=/ca", "unknown option 'ssl_ca_certs'"),
            ("rediss://host?ssl_ca_certs=/no/such/file", "cannot load the TLS certificates"),
            ("rediss://host?ssl_cert_reqs=maybe", "required or none"),
            ("unix://relative/path", "absolute path"),
            ("redis+sentinel://host", "master's name"),
            ("redis+cluster://host/1", "only database 0"),
        ],
    )
    def test_refuses_with_the_reason_and_without_the_password(self, url: str, says: str) -> None:
        scheme, separator, rest = url.partition("://")
        url = f"{scheme}{separator}s3cret@{rest}" if separator else url
        with pytest.raises(ValueError, match=says) as refusal:
            parse_broker(url)
        assert "s3cret" not in str(refusal.value)

    @pytest.mark.parametrize(
        ("url", "line"),
        [
            ("redis://s3cret@host/1", "Redis at host:6379, database 1"),
            ("rediss://u:s3cret@[::1]:1", "Redis at [::1]:1 over TLS, database 0"),
            ("unix://s3cret@/a/b", "Redis at /a/b, database 0"),
            (
                "redis+sentinel://s3cret@a,b/main",
                "Redis master 'main' by the sentinels at a:26379, b:26379, database 0",
            ),
            ("redis+cluster://s3cret@a,b", "Redis cluster at a:6379, b:6379"),
        ],
    )
    def test_is_described_in_one_line_without_secrets(self, url: str, line: str) -> None:
        broker = parse_broker(url)
        assert broker.describe() == line
        assert "s3cret" not in repr(broker)

    def test_tls_can_be_loosened_in_steps(self) -> None:
        strict = parse_broker("rediss://host").tls
        nameless = parse_broker("rediss://host?ssl_check_hostname=false").tls
        anything = parse_broker("rediss://host?ssl_cert_reqs=none").tls
        assert strict is not None
        assert nameless is not None
        assert anything is not None
        assert [
            (context.check_hostname, context.verify_mode.name)
            for context in (strict.context(), nameless.context(), anything.context())
        ] == [
            (True, "CERT_REQUIRED"),
            (False, "CERT_REQUIRED"),
            (False, "CERT_NONE"),
        ]


async def _announce_through(url: str) -> None:
    async with redis_store(url) as store:
        await ask(store, announce(1, SEEDER, STARTED))


def _holds_the_swarm(server: StoreServer, db: int = 0) -> bool:
    with server.client() as client:
        client.select(db)
        return bool(client.exists(f"IPv4_S_{hash_of(1).hex()}"))


async def _refusal(url: str) -> str:
    """What the log says when a server does not let us in."""
    broker = parse_broker(url)
    host, port = broker.hosts[0]
    with pytest.raises(StoreUnavailable) as refusal:
        await connect(broker, host, port, Timeouts(2.0, 2.0, 2.0))
    return str(refusal.value)


class TestConnecting:
    async def test_with_the_password_alone(self, store_servers: StoreServers) -> None:
        server = store_servers(password="s3cret")
        await _announce_through(f"redis://s3cret@127.0.0.1:{server.port}/0")
        assert _holds_the_swarm(server)
        assert "WRONGPASS" in await _refusal(f"redis://guess@127.0.0.1:{server.port}/0")
        assert "NOAUTH" in await _refusal(f"redis://127.0.0.1:{server.port}/0")

    @pytest.mark.parametrize("fixture", ["valkey_server", "redis6_server"])
    async def test_with_a_password_that_the_server_does_not_want(
        self, request: pytest.FixtureRequest, fixture: str
    ) -> None:
        server: StoreServer = request.getfixturevalue(fixture)
        server.flush()
        await _announce_through(f"redis://pwd@127.0.0.1:{server.port}/0")
        assert _holds_the_swarm(server)

    async def test_as_an_acl_user(self, store_servers: StoreServers) -> None:
        server = store_servers(config="user tracker on >s3cret ~IPv* ~udptracker_* +@all\n")
        await _announce_through(f"redis://tracker:s3cret@127.0.0.1:{server.port}/0")
        assert _holds_the_swarm(server)
        refusal = await _refusal(f"redis://tracker:guess@127.0.0.1:{server.port}/0")
        assert "WRONGPASS" in refusal
        assert "guess" not in refusal

    async def test_over_a_unix_socket(self, store_servers: StoreServers) -> None:
        server = store_servers(password="s3cret")
        await _announce_through(server.unix_url)
        assert _holds_the_swarm(server)

    async def test_to_another_database(self, valkey: StoreServer) -> None:
        await _announce_through(f"redis://127.0.0.1:{valkey.port}/3")
        assert _holds_the_swarm(valkey, 3)
        assert not _holds_the_swarm(valkey, 0)

    async def test_where_nobody_listens_says_where(self) -> None:
        assert "127.0.0.1:1" in await _refusal("redis://127.0.0.1:1/0")
