"""Tables of lists: what they hold, until when, and how it leaves."""

from __future__ import annotations

import random
from hashlib import sha1

import pytest

from udptracker.access.lists.tables import Clients, Found, Hashes, Networks, Passkeys, Table, make_table
from udptracker.core.listed import LISTS, PARSE, PASSKEYS, TORRENTS, hash_passkey, parse_network

NOW = 1_700_000_000


def some(which: str, number: int) -> bytes:
    """An entry of a list, another for each number below 2**16."""
    if which == PASSKEYS:
        return hash_passkey(b"passkey%d" % number)
    if which == TORRENTS:
        return sha1(b"%d" % number).digest()
    return PARSE[which](f"-XX{number:04}" if which == "clients" else f"10.{number >> 8}.{number & 255}.0/24")


def everything(table: Table) -> set[Found]:
    return {found for part in table.entries() for found in part}


def swept(table: Table, now: int) -> None:
    for _ in table.sweep(now):
        pass


@pytest.mark.parametrize("which", LISTS)
class TestEveryTable:
    def test_an_entry_is_found_with_its_verdict_until_it_is_removed(self, which: str) -> None:
        table = make_table(which)
        entry, other = some(which, 1), some(which, 2)
        table.put(entry, True, 0, "")
        assert table.find(entry, NOW) == Found(entry, True, 0)
        assert table.find(other, NOW) is None
        table.put(entry, False, NOW + 1, "")
        assert table.find(entry, NOW) == Found(entry, False, NOW + 1)
        assert table.counts() == (1, 0)
        table.remove(entry)
        table.remove(other)
        assert table.find(entry, NOW) is None
        assert table.counts() == (0, 0)

    def test_an_entry_ends_when_it_is_due(self, which: str) -> None:
        table = make_table(which)
        soon, later, never = (some(which, number) for number in range(3))
        for entry, expires in ((soon, NOW), (later, NOW + 100), (never, 0)):
            table.put(entry, True, expires, "")
        assert [table.find(entry, NOW - 1) is None for entry in (soon, later, never)] == [False, False, False]
        assert [table.find(entry, NOW) is None for entry in (soon, later, never)] == [True, False, False]
        swept(table, NOW)
        assert {found.entry for found in everything(table)} == {later, never}
        swept(table, NOW + 100)
        assert everything(table) == {Found(never, True, 0)}
        assert table.counts() == (0, 1)

    def test_a_model_and_the_table_agree(self, which: str) -> None:
        """Some 2,000 changes, more than the buckets there are at first, against a dictionary."""
        rng, table = random.Random(20260101), make_table(which)
        model: dict[bytes, Found] = {}
        for _ in range(6_000):
            entry = some(which, rng.randrange(3_000))
            if rng.random() < 0.2:
                table.remove(entry)
                model.pop(entry, None)
            else:
                found = Found(entry, rng.random() < 0.5, rng.choice((0, NOW, NOW + 1)))
                table.put(*found)
                model[entry] = found
        assert everything(table) == set(model.values())
        denied = sum(found.denied for found in model.values())
        assert table.counts() == (len(model) - denied, denied)
        for number in range(3_000):
            entry = some(which, number)
            known = model.get(entry)
            assert table.find(entry, NOW) == (None if known is None or known.expires == NOW else known)
        for _ in table.clear():
            pass
        assert everything(table) == set()


def test_hashes_that_were_made_to_end_or_begin_alike_lie_as_apart_as_others() -> None:
    """In one bucket, 20,000 took five seconds to put there, and half a millisecond to ask for one."""
    count = range(20_000)
    for made in ([n.to_bytes(18, "big") + bytes(2) for n in count], [n.to_bytes(20, "little") for n in count]):
        hashes = Hashes()
        for info_hash in made:
            hashes.put(info_hash, 0)
        assert max(map(len, hashes._buckets)) <= 24 * 12
        assert all(hashes.holds(info_hash, 0) for info_hash in made)


def test_an_info_hash_across_two_others_is_none_of_them() -> None:
    """The end of one record and the beginning of the next look like a third, in one bucket of all three."""
    rng, hashes = random.Random(3), Hashes()
    mask = hashes._mask
    for _ in range(1_000_000):
        first, second = rng.randbytes(20), rng.randbytes(20)
        if (hash(first) ^ hash(second)) & mask:
            continue
        joined = first + bytes(4) + second
        across = [joined[at : at + 20] for at in range(1, 24) if not (hash(joined[at : at + 20]) ^ hash(first)) & mask]
        if across:
            break
    hashes.put(first, 0)
    hashes.put(second, 0)
    assert across
    assert hashes.holds(first, NOW)
    assert hashes.holds(second, NOW)
    assert not any(hashes.holds(each, NOW) for each in across)


def test_the_longest_beginning_decides() -> None:
    clients = Clients()
    for text, denied in (("-XX", True), ("-XX12", False), ("-XX123", True)):
        clients.put(text.encode(), denied, 0, "")
    ranks = [clients.rank(peer.ljust(20, b"0"), NOW) for peer in (b"-XX9", b"-XX120", b"-XX123", b"-YY")]
    assert [rank & 1 if rank >= 0 else None for rank in ranks] == [1, 0, 1, None]


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("192.0.2.0/24", "c0000201", "c0000301"),
        ("192.0.2.7", "c0000207", "c0000208"),
        ("0.0.0.0/0", "c0000201", "20010db8" + "00" * 12),
        ("2001:db8::/33", "20010db87" + "f" * 23, "20010db88" + "0" * 23),
        ("::/0", "00" * 16, "c0000201"),
        ("::ffff:192.0.2.0/120", "c0000201", "c0000301"),
    ],
)
def test_a_network_holds_its_addresses(network: str, inside: str, outside: str) -> None:
    networks = Networks()
    networks.put(parse_network(network), True, 0, "")
    assert networks.rank(bytes.fromhex(inside), NOW) & 1 == 1
    assert networks.rank(bytes.fromhex(outside), NOW) == -1


def test_a_passkey_that_is_like_another_is_none() -> None:
    """What is looked up by is the first half of the hash; the other half counts as well."""
    passkeys = Passkeys()
    known = hash_passkey(b"a passkey")
    passkeys.put(known, False, 0, "somebody")
    assert passkeys.find(known, NOW) == Found(known, False, 0, "somebody")
    assert passkeys.find(known[:-1] + bytes((known[-1] ^ 1,)), NOW) is None


@pytest.mark.parametrize("meanwhile", ["one", "many"])
def test_what_comes_while_the_ended_are_let_go_of_ends_all_the_same(meanwhile: str) -> None:
    hashes = Hashes()
    hashes.put(some(TORRENTS, 0), NOW)
    late = [some(TORRENTS, number) for number in range(1, 300 if meanwhile == "one" else 3_000)]
    for step, _ in enumerate(hashes.sweep(NOW)):
        if step == 2:  # half of the buckets there are at first were looked at
            for info_hash in late:
                hashes.put(info_hash, NOW + 1)
    assert not any(hashes.holds(info_hash, NOW + 1) for info_hash in late)
    for _ in hashes.sweep(NOW + 1):
        pass
    assert hashes.count == 0


def test_what_is_let_go_of_may_be_swept_and_written_meanwhile() -> None:
    """A table that another has taken the place of is freed while somebody may still be at it."""
    table = make_table(TORRENTS)
    for number in range(500):
        table.put(some(TORRENTS, number), True, NOW, "")
    written, sweeping, clearing = table.entries(), table.sweep(NOW), table.clear()
    found = {one.entry for one in next(written)}
    next(sweeping)
    for _ in clearing:
        pass
    assert list(sweeping) == []
    assert len(found | {one.entry for part in written for one in part}) == 500


def test_entries_that_were_there_are_read_though_the_table_grows() -> None:
    table = make_table(TORRENTS)
    there = {some(TORRENTS, number) for number in range(900)}
    for entry in there:
        table.put(entry, True, 0, "")
    reading = table.entries()
    found = {one.entry for one in next(reading)}
    for number in range(900, 3_000):
        table.put(some(TORRENTS, number), True, 0, "")
    assert there <= found | {one.entry for part in reading for one in part}


@pytest.mark.parametrize("which", LISTS)
def test_what_is_put_anew_while_the_ended_are_let_go_of_stays(which: str) -> None:
    table = make_table(which)
    entries = [some(which, number) for number in range(3_000)]
    for entry in entries:
        table.put(entry, True, NOW, "")
    sweeping = table.sweep(NOW)
    next(sweeping)
    for entry in entries:
        table.put(entry, True, NOW + 1, "")
    for _ in sweeping:
        pass
    assert {found.entry for found in everything(table)} == set(entries)
