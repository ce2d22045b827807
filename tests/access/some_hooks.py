"""Hooks as somebody else may write them, good ones and bad ones."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from udptracker.access.hooks import Announce, OptionError, PostHook, PreHook, TryAgain

made: list[Any] = []
"""Every hook that was made since a test emptied it."""


class _Noted:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.life: list[str] = []
        self.calls: list[list[Announce]] = []
        self.let = asyncio.Event()
        made.append(self)

    async def open(self) -> None:
        await asyncio.sleep(self.options.get("opens_in", 0))
        self.life.append("open")
        if self.options.get("unable"):
            raise ConnectionError("nobody there")

    async def close(self) -> None:
        self.life.append("close")
        if self.options.get("unable"):
            raise ConnectionError("nobody there")


class AtOnce(_Noted, PreHook):
    """Does what `does` says about each announce, or refuses those to the ports in `ports`."""

    does: Callable[[Announce], Any] | None = None

    def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        for announce in announces:
            if self.does is not None:
                self.does(announce)
            elif announce.port in self.options.get("ports", ()):
                announce.refuse("not this port")


class Later(_Noted, PreHook):
    """The same, once it is let."""

    async def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        if not self.options.get("at_once"):
            await self.let.wait()
        for announce in announces:
            if announce.port in self.options.get("ports", ()):
                announce.refuse("not this port")


class InThread(_Noted, PreHook):
    """Waits in a thread until it is told to end, for the ports in `ports`; raises for those in `raises`."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.end = threading.Event()

    async def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        for announce in announces:
            announce.refuse(await self.in_thread(self.slowly, announce.port, then="from a thread"))

    def slowly(self, port: int, then: str) -> str:
        if port in self.options.get("ports", ()):
            self.end.wait(20)
        if port in self.options.get("raises", ()):
            raise StopIteration
        return then


class Remembering(_Noted, PreHook):
    """Has refused those to the ports in `ports` before; decides about others once it is let."""

    def recall(self, announces: Sequence[Announce]) -> Sequence[Announce]:
        left = []
        for announce in announces:
            if announce.port in self.options["ports"]:
                announce.refuse("as before")
            else:
                left.append(announce)
        return left

    async def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        await self.let.wait()


class Misremembering(_Noted, PreHook):
    """Gives back what are no announces, and can be in no set."""

    def recall(self, announces: Sequence[Announce]) -> Any:
        return [*announces, []]

    async def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))


class Failing(_Noted, PreHook):
    async def judge(self, announces: Sequence[Announce]) -> None:
        announces[0].refuse("half done")
        await asyncio.sleep(0)
        raise LookupError("a bug")


class FailingAtOnce(_Noted, PreHook):
    def judge(self, announces: Sequence[Announce]) -> None:
        announces[0].refuse("half done")
        sys.exit("a hook that thinks it is alone")


class NeverDone(_Noted, PreHook):
    """Goes on when it is cancelled, until it is let, and then decides."""

    async def judge(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        while not self.let.is_set():
            try:
                await self.let.wait()
            except asyncio.CancelledError:
                continue
        for announce in announces:
            announce.refuse("too late")


class Blocking(_Noted, PreHook):
    async def judge(self, announces: Sequence[Announce]) -> None:
        await asyncio.sleep(0)
        time.sleep(0.15)  # noqa: ASYNC251  # what it must not do


class BlockingAtOnce(_Noted, PreHook):
    def judge(self, announces: Sequence[Announce]) -> None:
        time.sleep(0.15)


class Lying(_Noted, PreHook):
    """Says that it is no coroutine, and is one."""

    def judge(self, announces: Sequence[Announce]) -> Any:
        return asyncio.sleep(0)


class Seeing(_Noted, PostHook):
    async def see(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        if not self.options.get("at_once"):
            await self.let.wait()


class SeeingAtOnce(_Noted, PostHook):
    def see(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        if self.options.get("fails") and len(self.calls) == 1:
            raise LookupError("a bug")


class SeeingAgain(_Noted, PostHook):
    """Asks for the same three times."""

    async def see(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        if len(self.calls) < 3:
            raise TryAgain


class SeeingForEver(_Noted, PostHook):
    async def see(self, announces: Sequence[Announce]) -> None:
        self.calls.append(list(announces))
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if self.let.is_set():
                    return


def picky(options: dict[str, Any]) -> PreHook:
    """Wants a limit of 1 or more, and nothing else."""
    if options.get("limit", 0) == "odd":
        raise ValueError("no odd ones")
    if not isinstance(options.get("limit"), int):
        raise OptionError("limit", "an integer of 1 or more")
    if "deep" in options:
        raise OptionError("deep.1", "less")
    return AtOnce(options)


def broken(options: dict[str, Any]) -> PreHook:
    raise RuntimeError("broken\nin two")


def neither(options: dict[str, Any]) -> object:
    return object()
