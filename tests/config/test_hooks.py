"""Hooks in the configuration: which are known, their options, what is wrong with them, and what is shown of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.support import fault, faults, settings, tree
from udptracker.config import Fault, dump, parse
from udptracker.service.channel import Channel, channel_pair
from udptracker.service.orders import for_worker

HASH = "a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5"
JWT = {
    "issuer": "https://issuer.com",
    "audience": "https://chihaya.issuer.com",
    "jwk_set_url": "https://issuer.com/keys",
}


def prehook(name: str, options: Any, **more: Any) -> dict[str, Any]:
    return {"prehooks": [{"name": name, "options": options, **more}]}


def test_chihayas_four_hooks_and_ours_are_taken_in_their_order() -> None:
    hooks = [
        {"name": "jwt", "options": JWT | {"jwk_set_update_interval": "5m"}},
        {"name": "client approval", "options": {"whitelist": ["OP1011"], "blacklist": None}},
        {"name": "interval variation", "options": {"modify_response_probability": 1, "max_increase_delta": 60}},
        {"name": "torrent approval", "options": {"blacklist": [HASH.upper()]}},
        {"name": "http approval", "options": {"url": "http://[::1]:8080/approve"}, "timeout": "300ms"},
        {"name": "package.module:factory", "options": {"any": [1, {"thing": None}]}, "on_failure": "allow"},
    ]
    taken = settings(prehooks=hooks).prehooks
    assert [hook.name for hook in taken] == [hook["name"] for hook in hooks]
    assert (taken[0].options.jwk_set_update_interval, taken[1].options.whitelist) == (300.0, ("OP1011",))
    assert (taken[2].options.modify_response_probability, taken[3].options.blacklist) == (1.0, (HASH.upper(),))
    assert taken[5].options == {"any": [1, {"thing": None}]}


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (prehook("torrent approval", {"whitelist": [HASH, HASH[1:]]}), (".whitelist.1", repr(HASH[1:]), "40 hexa")),
        (prehook("torrent approval", {"blacklist": [10**39]}), (".blacklist.0", "a huge number", "in quotes")),
        (prehook("torrent approval", {"blacklist": HASH}), (".blacklist", repr(HASH), "a list")),
        (prehook("torrent approval", {"whitelist": [HASH], "blacklist": [HASH]}), ("", "a mapping", "not both")),
        (prehook("torrent approval", {"whitelst": []}), (".whitelst", "an unknown key", "'whitelist'")),
        (prehook("torrent approval", "x"), ("", "a text", "a mapping")),
        (prehook("client approval", {"blacklist": ["-UT2210-"]}), (".blacklist.0", "'-UT2210-'", "six bytes")),
        (prehook("client approval", {"blacklist": ["UT221é"]}), (".blacklist.0", "'UT221é'", "six bytes")),
        (prehook("client approval", {"blacklist": [101010]}), (".blacklist.0", "101010", "in quotes")),
        (prehook("client approval", {"blacklist": ["UT2210"], "whitelist": ["UT2210"]}), ("", "a mapping", "not both")),
        (prehook("jwt", {**JWT, "jwk_set_url": "file:///etc/passwd"}), (".jwk_set_url", "'file:", "https://")),
        (prehook("jwt", {**JWT, "jwk_set_url": "https://u:p@h/"}), (".jwk_set_url", "(hidden)", "without user")),
        (prehook("jwt", {**JWT, "jwk_set_update_interval": "0s"}), (".jwk_set_update_interval", "'0s'", "from 1s")),
        (prehook("jwt", {**JWT, "issuer": ""}), (".issuer", "''", "not empty")),
        (prehook("http approval", {}), (".url", "nothing", "a value")),
        (prehook("http approval", {"url": "http://h", "bearer_token": 7}), (".bearer_token", "(hidden)", "a text")),
        (prehook("a.b:c", []), ("", "a list", "a mapping")),
    ],
)
def test_options_are_refused_by_their_path(hook: Any, expected: tuple[str, str, str]) -> None:
    told = fault(hook)
    path, found, words = expected
    assert told.path == f"udptracker.prehooks.0.options{path}"
    assert told.found.startswith(found)
    assert words in told.expected


@pytest.mark.parametrize("share", [0, -1, 1.1, 1e-60, 1e300, float("nan"), True, "0.2", None])
def test_a_share_of_peers_is_above_0_and_up_to_1(share: Any) -> None:
    told = fault(prehook("interval variation", {"modify_response_probability": share, "max_increase_delta": 60}))
    assert told.path == "udptracker.prehooks.0.options.modify_response_probability"


@pytest.mark.parametrize("seconds", [0, -1, 31_536_001, 1.5, True])
def test_an_increase_is_whole_seconds_within_a_year(seconds: Any) -> None:
    told = fault(prehook("interval variation", {"modify_response_probability": 0.2, "max_increase_delta": seconds}))
    assert told.path == "udptracker.prehooks.0.options.max_increase_delta"


def test_every_fault_is_told_at_once_with_the_place_of_its_hook() -> None:
    hooks = [{"name": "jwt"}, {"name": "client approval", "options": {"whitelist": [1]}, "timeout": "1s"}]
    paths = [each.path.removeprefix("udptracker.prehooks.") for each in faults({"prehooks": hooks})]
    assert paths == [
        *(f"0.options.{key}" for key in ("issuer", "audience", "jwk_set_url")),
        "1.options.whitelist.0",
        "1.timeout",
    ]


@pytest.mark.parametrize(
    ("hook", "path"),
    [
        (prehook("a:b", {}, timeout="0s"), "timeout"),
        (prehook("a:b", {}, on_failure="open"), "on_failure"),
        (prehook("a:b", {}, max_pending=0), "max_pending"),
        (prehook("a:b", {}, extra=0), "extra"),
        (prehook("torrent approval", {}, on_failure="allow"), "on_failure"),
    ],
)
def test_what_stands_beside_the_options_is_refused_by_its_path(hook: Any, path: str) -> None:
    assert fault(hook).path == f"udptracker.prehooks.0.{path}"


@pytest.mark.parametrize("name", ["jwt", "client approval", "torrent approval", "interval variation", "http approval"])
def test_what_decides_is_no_posthook(name: str) -> None:
    told = fault({"posthooks": [{"name": name, "options": {}}]})
    assert (told.path, told.found) == ("udptracker.posthooks.0.name", repr(name))
    assert "under prehooks" in told.expected


def test_a_name_that_nobody_has_is_refused_with_the_one_that_is_meant() -> None:
    assert fault(prehook("jwtt", {})) == Fault("udptracker.prehooks.0.name", "'jwtt'", "'jwt', or none")
    assert "module:factory" in fault(prehook("x", {})).expected
    assert fault(prehook("os:system()", {})).path == "udptracker.prehooks.0.name"


def test_options_nested_too_deeply_are_refused() -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"x": deep}
    assert fault(prehook("a:b", deep)).expected == "no more than 20 levels"


def test_a_stream_needs_a_redis() -> None:
    stream: dict[str, Any] = {"posthooks": [{"name": "announce stream"}]}
    assert fault(stream).path == "udptracker.posthooks.0.options.redis_broker"
    assert tree(stream | {"storage": {"name": "redis"}}).settings.posthooks[0].options.redis_broker is None
    stream["posthooks"][0]["options"] = {"redis_broker": "redis://secret@h:x"}
    told = fault(stream)
    assert (told.path, told.found) == ("udptracker.posthooks.0.options.redis_broker", "(hidden)")


def test_hooks_come_from_the_environment_as_well() -> None:
    hooks = [{"name": "torrent approval", "options": {"whitelist": [HASH]}}]
    assert tree({}, UDPTRACKER_PREHOOKS=json.dumps(hooks)).settings == settings(prehooks=hooks)
    hooks[0]["options"] = {"whitelist": ["x"]}
    assert fault({}, UDPTRACKER_PREHOOKS=json.dumps(hooks)).path.startswith("UDPTRACKER_PREHOOKS")


def test_only_secrets_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("S3CRET\n")
    reference = f"${{file:{tmp_path / 'token'}}}"
    taken = settings(**prehook("http approval", {"url": "http://h/", "bearer_token": reference})).prehooks[0]
    assert taken.options.bearer_token.get_secret_value() == "S3CRET"
    assert settings(**prehook("a:b", {"deep": [reference]})).prehooks[0].options == {"deep": ["S3CRET"]}
    told = faults(prehook("jwt", {**JWT, "issuer": reference}))[0]
    assert told.path == "udptracker.prehooks.0.options.issuer"
    assert "only a secret" in told.expected


def test_what_is_shown_of_hooks_reads_as_the_same_and_holds_no_secret() -> None:
    body = {
        "prehooks": [
            {"name": "interval variation", "options": {"modify_response_probability": 0.2, "max_increase_delta": 6}},
            {"name": "torrent approval", "options": {"whitelist": [HASH]}},
        ]
    }
    loaded = tree(body)
    assert parse(dump(loaded.settings, loaded.origins), {}).settings == loaded.settings
    hidden = {
        "prehooks": [
            {"name": "http approval", "options": {"url": "http://h/", "bearer_token": "S3CRET"}},
            {"name": "a:b", "options": {"pass": "S3CRET", "pin": ["S3CRET"], "n": 7, "deep": {"is": True}}},
        ],
        "posthooks": [{"name": "announce stream", "options": {"redis_broker": "redis://S3CRET@h"}}],
    }
    loaded = tree(hidden)
    text = dump(loaded.settings, loaded.origins)
    shown = yaml.safe_load(text)["udptracker"]
    assert "S3CRET" not in text
    assert "S3CRET" not in repr(loaded.settings)
    assert "S3CRET" not in repr(for_worker(loaded.settings).prehooks[0])
    assert shown["prehooks"][0]["options"]["bearer_token"] == "***"
    assert shown["prehooks"][1]["options"] == {"pass": "***", "pin": ["***"], "n": 7, "deep": {"is": True}}
    assert shown["posthooks"][0]["options"]["redis_broker"] == "redis://***@h"
    assert "prehooks:  # file" in text
    assert "default" not in text.partition("  prehooks:")[2].partition("  posthooks:")[0]


def test_a_worker_is_given_lists_as_long_as_a_file_may_hold() -> None:
    """A message between processes has a bound below that of the file."""
    hashes = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC834:040x}"[:40] for number in range(1, 5500)]
    given = for_worker(settings(prehooks=[{"name": "torrent approval", "options": {"whitelist": hashes}}]))
    ours, theirs = map(Channel, channel_pair())
    assert len(pickle.dumps(given)) > 2**17
    assert ours.send(given)
    assert theirs.receive().prehooks[0].options.whitelist == tuple(hashes)
    ours.close()
    theirs.close()
