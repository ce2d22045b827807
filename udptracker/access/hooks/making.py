"""Hooks by their names: what makes each of its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from udptracker.access.base import AccessError
from udptracker.access.hooks.api import PostHook, PreHook
from udptracker.access.hooks.at_once import AtOnce
from udptracker.access.hooks.client_approval import ClientApproval
from udptracker.access.hooks.deciding import Asking, Deciding
from udptracker.access.hooks.finding import make_others
from udptracker.access.hooks.interval_variation import IntervalVariation
from udptracker.access.hooks.torrent_approval import TorrentApproval
from udptracker.access.hooks.watching import Watching
from udptracker.core.counters import Counters

if TYPE_CHECKING:
    from udptracker.config import Settings

_STREAM_SECONDS: Final = 5.0
"""Until a connection of a stream counts as dead."""

Ready = AtOnce | Deciding | Asking | Watching
"""A hook that can be opened and put to use."""


class _Ours(NamedTuple):
    """`make` has the name, the options, the counters and what the hook needs of all other settings, as `needs` finds
    it: a hook is made anew when one of these is another one."""

    make: Callable[[str, Any, Counters, Any], AtOnce | PreHook | PostHook]
    needs: Callable[[Settings], Any] = lambda _: None


def needs_of(name: str, settings: Settings) -> Any:
    """What else than its own options a hook is made of; it can be compared."""
    ours = _OURS.get(name)
    return None if ours is None else ours.needs(settings)


async def make_hook(place: str, at: int, hook: Any, needs: Any, counters: Counters) -> Ready:
    """A hook that is not opened yet.

    Args:
        place, at: where it stands in the configuration, as `hook`.

    Raises:
        AccessError: it cannot be made.
    """
    name = hook.name
    counters.add_hook(name)
    ours = _OURS.get(name)
    if ours is None:
        made: AtOnce | PreHook | PostHook = await make_others(place, at, name, hook.options)
    else:
        made = ours.make(name, hook.options, counters, needs)
    if isinstance(made, AtOnce):
        return made
    if isinstance(made, PostHook):
        return Watching(name, made, hook, counters)
    kind = Asking if inspect.iscoroutinefunction(made.judge) else Deciding
    return kind(name, made, hook, counters)


def _torrent_approval(name: str, options: Any, counters: Counters, needs: None) -> AtOnce:
    lists = (map(bytes.fromhex, listed) for listed in (options.whitelist, options.blacklist))
    return TorrentApproval(name, counters, *lists)


def _client_approval(name: str, options: Any, counters: Counters, needs: None) -> AtOnce:
    lists = (map(str.encode, listed) for listed in (options.whitelist, options.blacklist))
    return ClientApproval(name, counters, *lists)


def _interval_variation(name: str, options: Any, counters: Counters, interval: int) -> AtOnce:
    share, most = options.modify_response_probability, options.max_increase_delta
    return IntervalVariation(name, counters, interval, share, most)


def _jwt(name: str, options: Any, counters: Counters, needs: None) -> AtOnce:
    try:
        import cryptography  # noqa: F401  # PyJWT does without, and then knows no asymmetric algorithm

        from udptracker.access.hooks.jwt_approval import JwtApproval
    except ImportError:
        raise AccessError("jwt needs PyJWT and cryptography: pip install 'udptracker[jwt]'") from None
    return JwtApproval(
        name,
        counters,
        issuer=options.issuer,
        audience=options.audience,
        url=options.jwk_set_url,
        interval=options.jwk_set_update_interval,
    )


def _http_approval(name: str, options: Any, counters: Counters, needs: None) -> PreHook:
    from udptracker.access.hooks.http_approval import HttpApproval  # and an HTTP client

    return HttpApproval(options.url, options.bearer_token.get_secret_value(), options.max_cached)


def _announce_stream(name: str, options: Any, counters: Counters, broker: Any) -> PostHook:
    # What a node on memory without a stream has no use for.
    from udptracker.access.hooks.announce_stream import AnnounceStream
    from udptracker.redis.link import Timeouts
    from udptracker.redis.topologies import make_topology
    from udptracker.redis.url import parse_broker

    url = (options.redis_broker or broker).get_secret_value()
    topology = make_topology(parse_broker(url), Timeouts(*[_STREAM_SECONDS] * 3))
    return AnnounceStream(topology, options.key.encode(), options.max_length, addresses=options.addresses)


def _broker(settings: Settings) -> Any:
    return getattr(settings.storage.config, "redis_broker", None)


_OURS: Final[Mapping[str, _Ours]] = {
    "jwt": _Ours(_jwt),
    "torrent approval": _Ours(_torrent_approval),
    "client approval": _Ours(_client_approval),
    "interval variation": _Ours(_interval_variation, lambda settings: int(settings.announce_interval)),
    "http approval": _Ours(_http_approval),
    "announce stream": _Ours(_announce_stream, _broker),
}
