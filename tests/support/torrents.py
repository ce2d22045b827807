"""Real BitTorrent clients (libtorrent) that can learn of peers from a tracker only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import libtorrent as lt

from tests.support.waiting import eventually

_PIECE_BYTES: Final = 32 * 1024


class Torrent(NamedTuple):
    """A file to share, and its bencoded metadata (BEP 3), which names no tracker."""

    name: str
    content: bytes
    info_hash: bytes
    metadata: bytes


def make_torrent(name: str, content: bytes) -> Torrent:
    """A torrent of one file. It is private (BEP 27): its clients exchange no peers among themselves."""
    pieces = [content[at : at + _PIECE_BYTES] for at in range(0, len(content), _PIECE_BYTES)]
    info: dict[bytes, Any] = {
        b"name": name.encode(),
        b"length": len(content),
        b"piece length": _PIECE_BYTES,
        b"pieces": b"".join(hashlib.sha1(piece).digest() for piece in pieces),
        b"private": 1,
    }
    metadata: dict[bytes, Any] = {b"info": info}
    return Torrent(name, content, hashlib.sha1(lt.bencode(info)).digest(), lt.bencode(metadata))


class TorrentClient:
    """One libtorrent session at one loopback address, sharing one torrent.

    Args:
        directory: where the file is, or shall be.
        torrent: what to share.
        tracker: its announce URL.
        host: the address to listen on.
    """

    def __init__(self, directory: Path, torrent: Torrent, tracker: str, host: str = "127.0.0.1") -> None:
        self._path = directory / torrent.name
        self._torrent = torrent
        interface = f"[{host}]:0" if ":" in host else f"{host}:0"
        self._session = lt.session(
            {
                "listen_interfaces": interface,
                "outgoing_interfaces": host,
                "enable_dht": False,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                # uTP would keep a closing session waiting for seconds.
                "enable_incoming_utp": False,
                "enable_outgoing_utp": False,
                # All clients of a test have one address.
                "allow_multiple_connections_per_ip": True,
                "alert_mask": lt.alert.category_t.error_notification
                | lt.alert.category_t.tracker_notification
                | lt.alert.category_t.status_notification,
            }
        )
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(torrent.metadata)
        parameters.save_path = str(directory)
        parameters.trackers = [tracker]
        self._handle = self._session.add_torrent(parameters)

    @classmethod
    def with_file(cls, directory: Path, torrent: Torrent, tracker: str, host: str = "127.0.0.1") -> Self:
        """A client that has the whole file from the start."""
        directory.mkdir()
        (directory / torrent.name).write_bytes(torrent.content)
        return cls(directory, torrent, tracker, host)

    @classmethod
    def without_file(cls, directory: Path, torrent: Torrent, tracker: str, host: str = "127.0.0.1") -> Self:
        """A client that has nothing of it."""
        directory.mkdir()
        return cls(directory, torrent, tracker, host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._handle
        del self._session

    @property
    def port(self) -> int:
        """Where it takes connections, and what it announces."""
        return int(self._session.listen_port())

    @property
    def events(self) -> list[str]:
        """What libtorrent has reported since it was last asked."""
        return [alert.message() for alert in self._session.pop_alerts()]

    def wait_until_seeding(self) -> None:
        """Return when it has every piece and checked it."""
        try:
            eventually(lambda: self._handle.status().is_seeding, f"{self._path} to be whole")
        except AssertionError as error:
            error.add_note("\n".join(self.events))
            raise

    def wait_until_written(self, content: bytes) -> None:
        """Return when this is in the file on disk: what was checked is written there some time later."""
        eventually(lambda: self._path.exists() and self._path.read_bytes() == content, f"{self._path} to be written")

    def leave(self) -> None:
        """Take the torrent out, which tells the tracker `stopped`."""
        self._session.remove_torrent(self._handle)
