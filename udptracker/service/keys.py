"""The keys of connection ids where the configuration has none: the ones that nodes agree on through their store."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from udptracker.core.swarm import StoreError, StoreUnavailable
from udptracker.storage.base import PeerStore

if TYPE_CHECKING:
    from udptracker.config import RedisSettings, Settings

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 5.0
"""How often a node looks for new keys."""

FIRST_SECONDS: Final = 1.0
"""How long a node waits for them before it serves without."""


class SharedKeys:
    """What this node knows of the keys that all share: `shared`, the first of which issues."""

    def __init__(self, store: PeerStore) -> None:
        self.shared: list[bytes] = []
        self._store = store
        self._said = ""

    async def refresh(self, own: bytes) -> bool:
        """Whether there are new ones; while the store is away, those that it had stay.

        Args:
            own: what to propose where there are none.
        """
        proposed = self.shared[0] if self.shared else own  # a store that lost its data is given back what it had
        try:
            shared = await self._store.agree_on_keys(proposed)
        except StoreUnavailable:
            return False
        except StoreError as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("connection ids are valid on this node only: %s", error)
            return False
        if not shared or shared == self.shared:
            return False
        if not self.shared:
            log.info("connection ids are valid on all nodes")
        elif shared[0] != self.shared[0]:
            log.info("connection ids are issued with a new key")
        self.shared = shared
        return True


def rotate(settings: Settings) -> str:
    """Make a new key for all nodes that have none of their own; refuses nobody on the way. What was done, in words.

    Raises:
        StoreError: it could not be done.
    """
    if settings.udp.private_key:
        raise StoreError("udp.private_key is set, and nodes use that: put a new key first in it, and keep the old one")
    from udptracker.config import RedisSettings

    config = settings.storage.config
    if not isinstance(config, RedisSettings):
        raise StoreError("nodes share a key through Redis: give --storage URL, or --config FILE of nodes that have one")
    return asyncio.run(_rotate(config))


async def _rotate(config: RedisSettings) -> str:
    from udptracker.client.reaching import reached
    from udptracker.storage.redis import keys

    async with reached(config) as topology:
        fresh = await keys.announce_next(topology)
        await asyncio.sleep(2 * REFRESH_SECONDS)
        await keys.issue_with(topology, fresh)
    return f"all nodes issue connection ids with a new key within {REFRESH_SECONDS:g} s; the last one stays valid"
