"""Every kind of key that there is in the store, with its type and its life: `keys` builds them."""

import re
from functools import lru_cache
from typing import NamedTuple

from broker.wire.names import NAME_PATTERN


class KeyKind(NamedTuple):
    """One kind of key. `name` is what follows the shard's tag; capitals stand for what varies."""

    name: str
    type: str
    life: str
    holds: str


KEY_KINDS = (
    KeyKind(
        "machine:USER/NAME",
        "hash",
        "lasting",
        "`latest` revision and its `images`, or `last` of one that was removed; each revision's definition",
    ),
    KeyKind("readers:USER/NAME", "set", "lasting", "users whom the machine is shared with"),
    KeyKind(
        "machine_streams:USER/NAME",
        "hash",
        "lasting",
        "streams that name the machine: '' for now, or the last item pushed before another was named",
    ),
    KeyKind("machines:USER", "set", "lasting", "names of the user's machines"),
    KeyKind(
        "removed_machines:USER",
        "zset",
        "lasting",
        "machines that were removed and whose definitions are kept, by the time of it",
    ),
    KeyKind("images:USER", "hash", "lasting", "size in bytes by digest: the images granted to the user"),
    KeyKind("grants", "hash", "lasting", "to how many users an image is granted, by digest"),
    KeyKind("ungranted", "set", "lasting", "images that nobody is granted any more, until their bytes are removed"),
    KeyKind("unnamed", "zset", "lasting", "`USER/DIGEST`: granted images by the time since when no machine names them"),
    KeyKind(
        "secret:USER/NAME",
        "hash",
        "lasting",
        "a secret: kind, size, version, its value sealed by a key of the broker's",
    ),
    KeyKind(
        "outbox:USER",
        "stream",
        "lasting",
        "events that the servers of the user's streams are told; removed only when told or given up, a while later",
    ),
    KeyKind("owed:USER", "zset", "lasting", "entries of the outbox that wait to be told, by when they are due"),
    KeyKind("owed_out:USER", "zset", "lasting", "those that somebody was given to tell, by when they count as lost"),
    KeyKind("delivered:USER", "zset", "lasting", "entries that were told, by when they were"),
    KeyKind("dead:USER", "zset", "lasting", "entries that were given up, by when they were"),
    KeyKind("callback:USER/ENTRY", "hash", "lasting", "attempts to tell an entry, and what became of the last"),
    KeyKind("callback_ids:USER", "hash", "lasting", "entries that were tried to be told, by `webhook-id`"),
    KeyKind("owing", "zset", "lasting", "users by when what they are owed, or what is kept of it, is to be looked at"),
    KeyKind("secrets:USER", "set", "lasting", "names of the user's secrets"),
    KeyKind(
        "masks:USER/NAME",
        "hash",
        "until the last vm is over that was given one",
        "sealed values of a secret that were replaced or removed, by version: what vms say is searched for them",
    ),
    KeyKind("streams:USER", "set", "lasting", "names of the user's streams"),
    KeyKind("stream:USER/NAME", "hash", "lasting", "revision, counts by state, event epoch and sequence, running mean"),
    KeyKind("specs:USER/NAME", "hash", "lasting", "spec by revision; `put:REVISION`: when it came"),
    KeyKind("item:USER/NAME/NUMBER", "hash", "lasting", "an item: state, counters, reason, result"),
    KeyKind(
        "ready:USER/NAME",
        "zset",
        "lasting",
        "lanes that have ready items: a spec revision, and a priority class but for the normal one; by class and place",
    ),
    KeyKind(
        "ready:USER/NAME/LANE",
        "list",
        "lasting",
        "`NUMBER:GENERATION:PLACE` of the lane's ready items, the next one at the head",
    ),
    KeyKind("delayed:USER/NAME", "zset", "lasting", "delayed items by the time at which they become ready"),
    KeyKind("dispatched:USER/NAME", "zset", "lasting", "dispatched items by the time of their dispatch"),
    KeyKind("running:USER/NAME", "zset", "lasting", "running items by the time of their claim"),
    KeyKind("held:USER/NAME", "zset", "lasting", "held items by the time at which they were"),
    KeyKind("cancelled:USER/NAME", "zset", "lasting", "cancelled items by the time at which they were"),
    KeyKind("done:USER/NAME", "zset", "lasting", "done items by the time of their completion"),
    KeyKind("names:USER/NAME", "hash", "lasting", "numbers of the named items, by name"),
    KeyKind("bulk:USER/NAME", "hash", "lasting", "the act on the whole stream that goes on, or the last one"),
    KeyKind("bulks", "zset", "lasting", "streams with a bulk act that goes on, by its start"),
    KeyKind("events:USER/NAME", "stream", "lasting", "event log, trimmed; ids are EPOCH-SEQUENCE"),
    KeyKind("feed:USER", "stream", "lasting", "events of all of the user's streams, trimmed; ids are EPOCH-SEQUENCE"),
    KeyKind("life", "hash", "lasting", "`run`: the process that serves the store; `number`, which grows with each"),
    KeyKind("ring", "zset", "lasting", "users with ready items by virtual time, in vcpu-milliseconds"),
    KeyKind("ring:USER", "zset", "lasting", "the user's streams with ready items by virtual time"),
    KeyKind("fair", "hash", "lasting", "`now`: the ring's virtual time"),
    KeyKind(
        "user:USER",
        "hash",
        "lasting",
        "`pass`: their virtual time when last in the ring; `now`: their ring's; what they have and may; `feed_epoch`; "
        "`secret_version`: the last given; `file_moves`: how often `file_bytes` did; `file_counted`: how often when "
        "it was last compared with the disk; `machine_floor`: the last revision of machines that are forgotten",
    ),
    KeyKind("deadlines", "zset", "lasting", "dispatched and running items by their deadline"),
    KeyKind("due", "zset", "lasting", "delayed items of all streams by the time at which they become ready"),
    KeyKind("keep", "zset", "lasting", "settled items of all streams by the time until which they are kept"),
    KeyKind("launchers", "zset", "lasting", "launchers by the time at which they were last heard"),
    KeyKind("launchers:SUBJECT", "zset", "a day", "those of one token, by the same time"),
    KeyKind(
        "launcher:LAUNCHER",
        "hash",
        "a day",
        "what a launcher last told of itself, when, and the scopes of the token that it told it with",
    ),
    KeyKind(
        "holds:TOKEN", "set", "lasting", "dispatches that launchers hold by one token, of whose number it has a bound"
    ),
    KeyKind("submitters", "zset", "lasting", "who told of launcher jobs, by the time at which they did last"),
    KeyKind("submitters:SUBJECT", "zset", "a day", "those of one token, by the same time"),
    KeyKind(
        "submitter:LAUNCHER",
        "hash",
        "a day",
        "what a submitter, named as launchers are, told last of its launcher jobs, when, and its token's scopes",
    ),
    KeyKind("clock", "hash", "lasting", "last tick; until when nothing expires; since when launchers could be heard"),
    KeyKind("vm:DISPATCH", "hash", "lasting", "a vm: size, phases, facts, verdict; goes with its item"),
    KeyKind("code:SHA256", "hash", "a week", "whom a one-time code logs in; once spent, which login it bought"),
    KeyKind(
        "token:TOKEN",
        "hash",
        "until it ends",
        "a login, a token that somebody made, or a site's: whose, what it allows, what it was made with",
    ),
    KeyKind("tokens:OWNER", "zset", "until they end", "those of a user or a site, by the time at which they end"),
    KeyKind("sites", "set", "lasting", "names of the sites that were ever given a token"),
    KeyKind("revoked", "zset", "lasting", "logins and tokens that were revoked, by the time at which they would end"),
    KeyKind(
        "revocations", "hash", "lasting", "`number` of times something was revoked: when it grows, `revoked` is read"
    ),
    KeyKind("push_key:SHA256", "string", "a day", "what a push with this idempotency key was answered"),
    KeyKind("dispatch_key:SHA256", "string", "an hour", "the dispatch that a launcher's dispatch key was given"),
)

_VARIABLES = {
    "USER": NAME_PATTERN,
    "NAME": NAME_PATTERN,
    "NUMBER": r"[1-9][0-9]*",
    "REVISION": r"[1-9][0-9]*",
    "LANE": r"[1-9][0-9]*(:high|:low)?",
    "LAUNCHER": rf".+/{NAME_PATTERN}",
    "SUBJECT": r".*",
    "DISPATCH": r"[0-9a-f-]{36}",
    "SHA256": r"[0-9a-f]{64}",
    "TOKEN": r"[!-~]{1,200}",
    "ENTRY": r"[0-9]+-[0-9]+",
    "OWNER": rf"(user|site)/{NAME_PATTERN}",
}
_WORD = re.compile(r"[A-Z0-9]{4,}")


def kind_of(rest: str) -> KeyKind | None:
    """Return the kind of what follows the shard's tag in a key, or None when it is none of ours."""
    return next((kind for kind in KEY_KINDS if _pattern(kind).fullmatch(rest)), None)


@lru_cache
def _pattern(kind: KeyKind) -> re.Pattern[str]:
    return re.compile(_WORD.sub(lambda word: _VARIABLES[word.group()], kind.name))
