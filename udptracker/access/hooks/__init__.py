"""Hooks: what decides about announces beside lists and limits, or is shown them, in the order of the configuration.

What a hook of somebody else's needs is here by name; see docs/hooks.md.
"""

from udptracker.access.hooks.api import (
    Announce,
    HookFailure,
    OptionError,
    PostHook,
    PostHookFactory,
    PreHook,
    PreHookFactory,
    TryAgain,
)
from udptracker.core.wire import Event

__all__ = [
    "Announce",
    "Event",
    "HookFailure",
    "OptionError",
    "PostHook",
    "PostHookFactory",
    "PreHook",
    "PreHookFactory",
    "TryAgain",
]
