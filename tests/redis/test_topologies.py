"""The topology of each kind of URL, and what each loads: a node pays in memory for nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from udptracker.redis.cluster import Cluster
from udptracker.redis.link import Timeouts
from udptracker.redis.topologies import make_topology
from udptracker.redis.topology import OneServer, Topology
from udptracker.redis.url import parse_broker

_MAKE = (
    "import asyncio, random\n"
    "from udptracker import config\n"
    "from udptracker.core.counters import Counters\n"
    "from udptracker.service.app import serve\n"
    "from udptracker.service.stores import make_store\n"
    "async def make(storage):\n"
    "    settings = config.from_tree({'storage': storage}, 'udptracker', {}).settings\n"
    "    make_store(settings.storage, random.random, Counters())\n"
    "asyncio.run(make({'name': %r, 'config': %r}))\n"
)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:6379/0", OneServer),
        ("rediss://127.0.0.1:6379/0", OneServer),
        ("unix:///run/redis.sock", OneServer),
        ("redis+sentinel://127.0.0.1:26379,127.0.0.1:26380/mymaster/0", OneServer),
        ("redis+cluster://127.0.0.1:7000,127.0.0.1:7001", Cluster),
    ],
)
async def test_each_kind_of_broker_has_one(url: str, kind: type[Topology]) -> None:
    assert type(make_topology(parse_broker(url), Timeouts(1.0, 1.0, 1.0))) is kind


@pytest.mark.parametrize(
    ("url", "loaded"),
    [
        ("", set()),
        ("redis://127.0.0.1:6379/0", {"hiredis"}),
        ("redis+sentinel://127.0.0.1:26379/mymaster/0", {"hiredis"}),
        ("redis+cluster://127.0.0.1:7000", {"hiredis", "redis"}),
    ],
)
def test_the_daemon_loads_what_its_store_needs(url: str, loaded: set[str]) -> None:
    code = _MAKE % (("redis", {"redis_broker": url}) if url else ("memory", {}))
    code += "import sys; print(*({'redis', 'hiredis', 'udptracker.storage.redis.store'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert set(run.stdout.split()) == (loaded | {"udptracker.storage.redis.store"} if url else loaded)


def test_reading_a_configuration_loads_no_tls_unless_it_is_asked_for() -> None:
    """asyncio, which the daemon runs on, loads it in any case; `udptracker check` and `announce` do not."""
    code = (
        "import sys\n"
        "from udptracker import config\n"
        "def read(url):\n"
        "    storage = {'name': 'redis', 'config': {'redis_broker': url}}\n"
        "    config.from_tree({'storage': storage}, 'udptracker', {}).settings.storage.describe()\n"
        "    print('ssl' in sys.modules)\n"
        "read('redis://127.0.0.1')\n"
        "read('rediss://127.0.0.1')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["False", "True"]
