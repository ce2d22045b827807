"""The daemon as its operator runs it, with real clients, on memory and on real stores."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Daemons, StoreServers
from tests.support.daemon import HOSTS, Daemon
from tests.support.servers import StoreServer
from tests.support.torrents import Torrent, TorrentClient, make_torrent
from tests.support.udp import NoAnswer, Refused, TrackerClient
from tests.support.waiting import eventually, free_port
from udptracker.core import wire
from udptracker.core.wire import Action, Event, SwarmStats

INFO_HASH = bytes(range(20))
OTHER_HASH = b"\xff" * 20

FLEET = "udptracker:\n  udp:\n    private_key: the secret of a fleet\n"
"""A configuration with which every daemon takes the connection ids of every other."""

families = pytest.mark.parametrize("family", HOSTS, ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def torrent() -> Torrent:
    """One MiB and a bit, so that the last piece is a short one."""
    return make_torrent("file.bin", random.Random(1).randbytes(2**20 + 12345))


class TestRealClientsMeet:
    """Two libtorrent sessions that know nothing but the tracker's announce URL.

    libtorrent keeps connection ids for a minute by the tracker's address, whatever the port, and for all sessions of a
    process: all daemons that it is to see here, one after another or beside each other, must share a key.
    """

    @families
    def test_on_memory(self, daemons: Daemons, tmp_path: Path, torrent: Torrent, family: int) -> None:
        daemon = daemons("memory", config=FLEET)
        url, host = daemon.announce_url(family), HOSTS[family]
        with (
            TorrentClient.with_file(tmp_path / "from", torrent, url, host),
            TorrentClient.without_file(tmp_path / "to", torrent, url, host) as leecher,
        ):
            leecher.wait_until_seeding()
            leecher.wait_until_written(torrent.content)
            self.see(daemon, torrent, SwarmStats(seeders=2, downloads=1, leechers=0), family)
            leecher.leave()
            self.see(daemon, torrent, SwarmStats(seeders=1, downloads=1, leechers=0), family)

    def test_on_one_store_with_a_tracker_each(
        self, daemons: Daemons, store_server: StoreServer, tmp_path: Path, torrent: Torrent
    ) -> None:
        one, other = daemons(store_server.url, config=FLEET), daemons(store_server.url, config=FLEET)
        with (
            TorrentClient.with_file(tmp_path / "from", torrent, one.announce_url()),
            TorrentClient.without_file(tmp_path / "to", torrent, other.announce_url()) as leecher,
        ):
            leecher.wait_until_seeding()
            leecher.wait_until_written(torrent.content)
            for daemon in (one, other):
                self.see(daemon, torrent, SwarmStats(seeders=2, downloads=1, leechers=0))

    def test_after_the_seeders_tracker_was_killed(
        self, daemons: Daemons, valkey: StoreServer, tmp_path: Path, torrent: Torrent
    ) -> None:
        one, other = daemons(valkey.url, config=FLEET), daemons(valkey.url, config=FLEET)
        with TorrentClient.with_file(tmp_path / "from", torrent, one.announce_url()):
            self.see(one, torrent, SwarmStats(seeders=1, downloads=0, leechers=0))
            one.kill()
            with TorrentClient.without_file(tmp_path / "to", torrent, other.announce_url()) as leecher:
                leecher.wait_until_seeding()
                leecher.wait_until_written(torrent.content)

    @staticmethod
    def see(daemon: Daemon, torrent: Torrent, expected: SwarmStats, family: int = 4) -> None:
        """Return when the tracker's scrape says so."""
        eventually(lambda: daemon.scrape(torrent.info_hash, family=family) == (expected,), f"a scrape of {expected}")


class TestOneDaemon:
    @families
    def test_announce_and_scrape(self, daemons: Daemons, family: int) -> None:
        daemon = daemons("memory")
        with daemon.client(family) as client:
            alone = client.announce(INFO_HASH, 6881)
            assert (alone.seeders, alone.leechers, client.peers(alone)) == (0, 1, [client.endpoint(6881)])
            seeder = client.announce(INFO_HASH, 6882, left=0)
            assert (seeder.seeders, seeder.leechers, client.peers(seeder)) == (1, 1, [client.endpoint(6881)])
            done = client.announce(INFO_HASH, 6881, left=0, event=Event.COMPLETED)
            assert (done.seeders, done.leechers, client.peers(done)) == (2, 0, [])
            assert client.scrape(INFO_HASH, OTHER_HASH, INFO_HASH) == (
                SwarmStats(2, 1, 0),
                SwarmStats(0, 0, 0),
                SwarmStats(2, 1, 0),
            )
            left = client.announce(INFO_HASH, 6881, left=0, event=Event.STOPPED)
            assert (left.seeders, left.leechers, client.peers(left)) == (1, 0, [])

    def test_families_never_mix(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        daemon.announce(INFO_HASH, 6881, family=4)
        answer = daemon.announce(INFO_HASH, 6882, family=6)
        assert (answer.seeders, answer.leechers) == (0, 1)
        assert daemon.scrape(INFO_HASH, family=4) == daemon.scrape(INFO_HASH, family=6) == (SwarmStats(0, 0, 1),)

    def test_peers_are_known_by_the_address_they_send_from(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        sources = [f"127.0.0.{number}" for number in range(2, 8)]
        for source in sources:
            with daemon.client(source=source) as client:
                client.announce(INFO_HASH, 6881, ip=bytes((192, 0, 2, 1)))
        with daemon.client() as client:
            peers = client.peers(client.announce(INFO_HASH, 6882))
        assert sorted(peers) == [bytes((127, 0, 0, number)) + b"\x1a\xe1" for number in range(2, 8)]

    @pytest.mark.parametrize("asked", ["127.0.0.9", "::1"])
    def test_a_reply_leaves_from_the_address_that_was_asked(self, daemons: Daemons, asked: str) -> None:
        """Both wildcards can be listened on at once, as IPv6 sockets are v6-only."""
        daemon = daemons("memory", hosts=["0.0.0.0", "::"])
        with TrackerClient(asked, daemon.port) as client:  # its socket takes no answer from elsewhere
            assert client.announce(INFO_HASH, 6881).leechers == 1

    def test_options_and_refusals(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        with daemon.client() as client:
            options = wire.encode_url_data("udp://tracker.example:6969/" + "x" * 300)
            assert client.announce(INFO_HASH, 6881, options=options).leechers == 1
            with pytest.raises(Refused, match=r"^invalid port$"):
                client.announce(INFO_HASH, 0)
            with pytest.raises(Refused, match=r"^malformed event ID$"):
                client.announce(INFO_HASH, 6881, event=4)
            client.connection_id = bytes(8)
            with pytest.raises(Refused, match=r"^bad connection ID$"):
                client.announce(INFO_HASH, 6881)

    def test_silence_for_what_is_no_request(self, daemons: Daemons) -> None:
        """Each is followed by a connect on the same socket, whose answer is then the first to come."""
        daemon = daemons("memory")
        with daemon.client() as client:
            for noise in (b"", b"GET / HTTP/1.1", bytes(15), bytes(16), bytes(8) + b"\0\0\0\2" + bytes(4)):
                client.send(noise)
                client.send(wire.encode_connect_request(7))
                answer = client.receive()
                assert wire.decode_response(answer).transaction_id == 7
                assert (len(answer), answer[:4]) == (16, bytes(4))

    def test_the_old_ipv6_announce_is_answered_with_its_action(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        with daemon.client(6) as client:
            request = wire.AnnounceRequest(INFO_HASH, bytes(20), 0, 1, 0, Event.STARTED, bytes(16), 0, -1, 6881)
            client.send(wire.encode_announce_request(client.connect(), 7, request))
            answer = client.receive()
        assert int.from_bytes(answer[:4], "big") == Action.ANNOUNCE_V6
        assert wire.decode_response(answer) == wire.AnnounceResponse(7, 1800, 1, 0, client_endpoint(6881))

    def test_metrics_and_health(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        with daemon.client() as client:
            for port in (6881, 6882, 6883):
                client.announce(INFO_HASH, port)
        status, metrics = daemon.get("/metrics")
        assert status == 200
        assert 'udptracker_requests_total{action="announce",family="ipv4"} 3.0' in metrics.splitlines()
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz")[0] == 200


def client_endpoint(port: int) -> bytes:
    """The compact endpoint of a peer at ::1."""
    return bytes(15) + b"\x01" + port.to_bytes(2, "big")


class TestSeveralDaemons:
    def test_a_killed_one_takes_no_peer_with_it(self, daemons: Daemons, store_server: StoreServer) -> None:
        one, other = daemons(store_server.url), daemons(store_server.url)
        ports = range(20000, 20060)
        for daemon, mine in ((one, ports[::2]), (other, ports[1::2])):
            for family in HOSTS:
                with daemon.client(family) as client:
                    for port in mine:
                        client.announce(INFO_HASH, port, left=port % 3)
        one.kill()
        for family in HOSTS:
            with other.client(family) as client:
                answer = client.announce(INFO_HASH, 19999, num_want=100)
                assert set(client.peers(answer)) == {client.endpoint(port) for port in ports}
                assert (answer.seeders, answer.leechers) == (20, 41)
                assert client.scrape(INFO_HASH) == (SwarmStats(20, 0, 41),)
        one.start()
        assert one.scrape(INFO_HASH) == (SwarmStats(20, 0, 41),)

    def test_ids_hold_on_every_one_with_the_key(self, daemons: Daemons) -> None:
        one, other, stranger = daemons(config=FLEET), daemons(config=FLEET), daemons("memory")
        with one.client() as client:
            issued = client.connect()
        with other.client() as client:
            client.connection_id = issued
            assert client.announce(INFO_HASH, 6881).leechers == 1
        with stranger.client() as client:
            client.connection_id = issued
            with pytest.raises(Refused, match="bad connection ID"):
                client.announce(INFO_HASH, 6881)


class TestStart:
    def test_waits_for_a_store_that_is_away(self, store_servers: StoreServers, tmp_path: Path) -> None:
        server = store_servers()
        server.kill()
        with Daemon(tmp_path, server.url) as daemon:
            daemon.start(wait=False)
            eventually(lambda: str(server.port) in daemon.log, "a line on the store that is away")
            assert daemon.running
            assert daemon.get("/readyz")[0] != 200
            server.start()
            daemon.wait_until_ready()
            assert daemon.announce(INFO_HASH, 6881).leechers == 1
            assert "Traceback" not in daemon.log

    def test_says_what_it_listens_on_and_stores_in(self, daemons: Daemons) -> None:
        daemon = daemons("memory")
        for expected in (f"127.0.0.1:{daemon.port}", f"[::1]:{daemon.port}", "memory"):
            assert sum(expected in line for line in daemon.log.splitlines()) == 1

    def test_a_port_in_use_is_one_clear_line(self, daemons: Daemons, tmp_path: Path) -> None:
        first = daemons("memory")
        self.fails_naming(Daemon(tmp_path / "second", "memory", port=first.port), f"port {first.port}: Address")

    def test_a_foreign_address_is_one_clear_line(self, tmp_path: Path) -> None:
        self.fails_naming(Daemon(tmp_path / "second", "memory", hosts=["192.0.2.1"]), "192.0.2.1")

    def test_a_metrics_port_in_use_is_one_clear_line(self, daemons: Daemons, tmp_path: Path) -> None:
        first = daemons("memory")
        second = Daemon(tmp_path / "second", "memory")
        second.metrics_port = first.metrics_port
        self.fails_naming(second, f"port {first.metrics_port}: Address")

    @staticmethod
    def fails_naming(daemon: Daemon, expected: str) -> None:
        """It ends with a status that is not 0, one error line, and no traceback."""
        with daemon:
            daemon.start(wait=False)
            assert daemon.wait() == 1
            assert "Traceback" not in daemon.log
            assert sum(expected in line for line in daemon.log.splitlines()) == 1


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("store", ["memory", "valkey"])
    def test_a_signal_ends_it_in_order(
        self, daemons: Daemons, request: pytest.FixtureRequest, number: signal.Signals, store: str
    ) -> None:
        daemon = daemons("memory" if store == "memory" else request.getfixturevalue(store).url)
        daemon.announce(INFO_HASH, 6881)
        daemon.signal(number)
        assert daemon.wait() == 0
        assert "Traceback" not in daemon.log
        with pytest.raises(NoAnswer):
            daemon.announce(INFO_HASH, 6881)

    def test_what_was_accepted_is_answered(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        daemon = daemons(server.url)
        with daemon.client() as client:
            self.leave_waiting(client, server)
            daemon.signal(signal.SIGTERM)
            self.wait_until_it_stops_reading(daemon)
            server.resume()
            answer = wire.decode_response(client.receive())
        assert answer == wire.AnnounceResponse(7, 1800, 1, 0, bytes((127, 0, 0, 1)) + b"\x1a\xe1")
        assert daemon.wait() == 0

    def test_a_store_that_stands_still_does_not_keep_it(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        daemon = daemons(server.url)
        with daemon.client() as client:
            self.leave_waiting(client, server)
            assert daemon.stop() == 0

    def test_a_second_signal_ends_it_at_once(self, daemons: Daemons, store_servers: StoreServers) -> None:
        server = store_servers()
        daemon = daemons(server.url)
        with daemon.client() as client:
            self.leave_waiting(client, server)
            daemon.signal(signal.SIGTERM)
            self.wait_until_it_stops_reading(daemon)
            assert daemon.running, "it did not wait for what it had accepted"
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == -signal.SIGTERM
            assert time.monotonic() - began < 2.0

    def test_a_signal_while_the_store_is_away_at_the_start(self, tmp_path: Path) -> None:
        port = free_port()
        with Daemon(tmp_path, f"redis://127.0.0.1:{port}/0") as daemon:
            daemon.start(wait=False)
            eventually(lambda: str(port) in daemon.log, "a line on the store that is away")
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.log

    @staticmethod
    def leave_waiting(client: TrackerClient, server: StoreServer) -> None:
        """Have the tracker hold an announce that its store, now paused, does not answer."""
        request = wire.AnnounceRequest(INFO_HASH, bytes(20), 0, 1, 0, Event.STARTED, bytes(4), 0, -1, 6881)
        connection_id = client.connect()
        server.pause()
        client.send(wire.encode_announce_request(connection_id, 7, request))
        client.connect()  # answered after the announce was read, as they came on one socket

    @staticmethod
    def wait_until_it_stops_reading(daemon: Daemon) -> None:
        """Return when a connect, which needs no store, is no longer answered."""

        def silent() -> bool:
            with TrackerClient(HOSTS[4], daemon.port, timeout=0.2, attempts=1) as client:
                try:
                    client.connect()
                except NoAnswer:
                    return True
            return False

        eventually(silent, "the tracker to stop reading")
