"""Redis over TLS: its certificate is checked, and ours is shown where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.contract import SEEDER, STARTED, announce, ask, hash_of
from tests.support.servers import StoreServer
from tests.support.stores import SHORT, redis_store
from tests.support.tls import Authority, tls_proxy
from udptracker import config
from udptracker.config import ConfigError
from udptracker.core.swarm import StoreUnavailable
from udptracker.redis.greeting import connect
from udptracker.redis.url import parse_broker


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


async def _refusal(url: str) -> str:
    broker = parse_broker(url)
    with pytest.raises(StoreUnavailable) as refusal:
        await connect(broker, *broker.hosts[0], SHORT)
    return str(refusal.value)


async def _stores(url: str, server: StoreServer) -> bool:
    async with redis_store(url) as store:
        await ask(store, announce(1, SEEDER, STARTED))
    with server.client() as client:
        return bool(client.exists(f"IPv4_S_{hash_of(1).hex()}"))


async def test_with_the_authority_of_the_servers_certificate(authority: Authority, valkey: StoreServer) -> None:
    async with tls_proxy(valkey.port, authority.issue("server")) as port:
        assert await _stores(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.path}", valkey)


async def test_another_authority_is_refused(authority: Authority, valkey: StoreServer, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    async with tls_proxy(valkey.port, authority.issue("server")) as port:
        assert "CERTIFICATE_VERIFY_FAILED" in await _refusal(f"rediss://127.0.0.1:{port}?ssl_ca_certs={other.path}")
        assert "CERTIFICATE_VERIFY_FAILED" in await _refusal(f"rediss://127.0.0.1:{port}")
        assert await _stores(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none", valkey)


async def test_a_certificate_of_another_host_is_refused(authority: Authority, valkey: StoreServer) -> None:
    async with tls_proxy(valkey.port, authority.issue("server", "192.0.2.1")) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.path}"
        assert "not valid for '127.0.0.1'" in await _refusal(url)
        assert await _stores(f"{url}&ssl_check_hostname=false", valkey)


async def test_a_client_certificate_is_shown_where_it_is_required(authority: Authority, valkey: StoreServer) -> None:
    ours = authority.issue("client")
    async with tls_proxy(valkey.port, authority.issue("server"), clients=authority) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.path}"
        assert f"127.0.0.1:{port}" in await _refusal(url)
        assert await _stores(f"{url}&ssl_certfile={ours.certificate}&ssl_keyfile={ours.key}", valkey)


async def test_a_server_without_tls_is_refused(valkey: StoreServer) -> None:
    assert f"127.0.0.1:{valkey.port}" in await _refusal(f"rediss://127.0.0.1:{valkey.port}")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_certificate_that_cannot_be_read_is_refused_at_the_start(option: str, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    for name in ("missing.pem", "garbage.pem"):
        storage = {"name": "redis", "config": {"redis_broker": f"rediss://host?{option}={tmp_path / name}"}}
        with pytest.raises(ConfigError) as refusal:
            config.from_tree({"storage": storage}, "udptracker", {})
        assert "udptracker.storage.config.redis_broker" in str(refusal.value)
        assert "cannot load the TLS certificates" in str(refusal.value)
