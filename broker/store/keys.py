"""Names of everything in the store: the only place that builds one, and the list of what there is and its life.

Every name carries the hash tag `{s0}`, so that an act may touch all it needs in one script. Some names are prefixes:
a script that learns an item's number, a dispatch's id, a spec's revision or the name of a machine, a secret, a launcher
or its token on its way appends it to `items`, `vms`, `ready_of`, `machines_of` or `machine_streams_of`, `secrets_of`,
`reports` or `launchers_of`, `told_of` or `submitters_of`, `token_of` or
`tokens_of`, `holds_of`; one that learns users on its way, their names to the prefixes of the outbox.
"""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from broker.wire.names import NAME_PATTERN, DispatchId, ItemRef, MachineRef, OwnedName, StreamRef, UserName

SHARD_TAG = "{s0}"
IDEMPOTENCY_MS = 86_400_000
"""A push may be repeated by its key for a day."""
DISPATCH_KEY_MS = 3_600_000
"""A dispatch may be repeated by its key for an hour: far longer than a launcher retries one request."""
KEEP_STEP_MS = 60_000
"""Settled items are forgotten at whole minutes, so that one act and one event serve many."""
GONE_STEPS = 1_000
"""How far one act follows a stream's first items that are all forgotten; the next one goes on."""
LOOKED_AT = 5_000
"""Numbers that one part of a bulk act looks at, of which it acts on some."""
STALE_ENTRIES = 200
"""Stale entries of a lane that one dispatch drops, and as many again as it asks for items."""
MASKS = 100
"""Values of one secret that are kept for masking after they were replaced, the latest ones."""
LAUNCHER_KEEP_MS = 86_400_000
"""A launcher, or a submitter of launcher jobs, unheard of for a day is forgotten."""
DELIVERED_KEEP_MS = 86_400_000
"""A callback that was delivered is shown, and may be replayed, for a day."""
DEAD_KEEP_MS = 2_592_000_000
"""One that was given up, for 30 days."""
DROPPED = 100
"""Callbacks of one user, of each state, that one act drops when they were kept for long enough."""


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


class StreamKeys(NamedTuple):
    """Every key and channel that an act on a stream's items may touch."""

    items: str
    vms: str
    stream: str
    specs: str
    streams: str
    ready: str
    ready_of: str
    delayed: str
    dispatched: str
    running: str
    held: str
    cancelled: str
    done: str
    names: str
    bulk: str
    bulks: str
    events: str
    feed: str
    life: str
    bell: str
    ready_bell: str
    ring: str
    user_ring: str
    fair: str
    account: str
    deadlines: str
    due: str
    keep: str
    launchers: str
    launchers_of: str
    reports: str
    holds_of: str
    outbox: str
    owed: str
    owing: str
    outbox_bell: str


class Keys:
    """Builder of names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self._head = f"{prefix}:{SHARD_TAG}:"
        self.ring = f"{self._head}ring"
        self.deadlines = f"{self._head}deadlines"
        self.due = f"{self._head}due"
        self.keep = f"{self._head}keep"
        self.bulks = f"{self._head}bulks"
        self.launchers = f"{self._head}launchers"
        self.launchers_of = f"{self._head}launchers:"
        self.reports = f"{self._head}launcher:"
        self.submitters = f"{self._head}submitters"
        self.submitters_of = f"{self._head}submitters:"
        self.told_of = f"{self._head}submitter:"
        self.holds_of = f"{self._head}holds:"
        self.clock = f"{self._head}clock"
        self.life = f"{self._head}life"
        self.grants = f"{self._head}grants"
        self.ungranted = f"{self._head}ungranted"
        self.unnamed = f"{self._head}unnamed"
        self.bells = f"{self._head}bell:"
        self.ready_bell = f"{self._head}ready_bell"
        self.streams_of = f"{self._head}stream:"
        self.readies = f"{self._head}ready:"
        self.peers = f"{self._head}peers"
        self.token_of = f"{self._head}token:"
        self.tokens_of = f"{self._head}tokens:"
        self.sites = f"{self._head}sites"
        self.revoked = f"{self._head}revoked"
        self.revocations = f"{self._head}revocations"
        self.owing = f"{self._head}owing"
        self.outbox_bell = f"{self._head}outbox_bell"
        self.outbox_of = f"{self._head}outbox:"
        self.owed_of = f"{self._head}owed:"
        self.out_of = f"{self._head}owed_out:"
        self.delivered_of = f"{self._head}delivered:"
        self.dead_of = f"{self._head}dead:"
        self.callbacks_of = f"{self._head}callback:"
        self.callback_ids_of = f"{self._head}callback_ids:"
        self.accounts = f"{self._head}user:"
        self.of_stream = lru_cache(maxsize=10_000)(self._of_stream)

    def machine(self, ref: MachineRef) -> str:
        return f"{self._head}machine:{ref}"

    def machines(self, user: UserName) -> str:
        return f"{self._head}machines:{user}"

    def removed_machines(self, user: UserName) -> str:
        return f"{self._head}removed_machines:{user}"

    def machines_of(self, user: UserName) -> str:
        """Return what the names of the user's machines are appended to."""
        return f"{self._head}machine:{user}/"

    def readers(self, ref: MachineRef) -> str:
        return f"{self._head}readers:{ref}"

    def machine_streams(self, ref: MachineRef | str) -> str:
        """Return the key of one machine, or with '' what its name is appended to."""
        return f"{self._head}machine_streams:{ref}"

    def images(self, user: UserName) -> str:
        return f"{self._head}images:{user}"

    def secret(self, ref: OwnedName) -> str:
        return f"{self._head}secret:{ref}"

    def secrets(self, user: UserName) -> str:
        return f"{self._head}secrets:{user}"

    def secrets_of(self, user: UserName) -> str:
        """Return what the names of the user's secrets are appended to."""
        return f"{self._head}secret:{user}/"

    def masks(self, ref: OwnedName) -> str:
        return f"{self._head}masks:{ref}"

    def streams(self, user: UserName) -> str:
        return f"{self._head}streams:{user}"

    def account(self, user: UserName) -> str:
        return f"{self.accounts}{user}"

    def user_ring(self, user: UserName) -> str:
        return f"{self._head}ring:{user}"

    def feed(self, user: UserName) -> str:
        return f"{self._head}feed:{user}"

    def item(self, ref: ItemRef) -> str:
        return f"{self._head}item:{ref}"

    def vm(self, dispatch: DispatchId) -> str:
        return f"{self._head}vm:{dispatch}"

    def launcher(self, launcher: str) -> str:
        return f"{self.reports}{launcher}"

    def push_key(self, ref: StreamRef, idempotency_key: str) -> str:
        return f"{self._head}push_key:{_digest(str(ref), idempotency_key)}"

    def dispatch_key(self, launcher: str, dispatch_key: str) -> str:
        return f"{self._head}dispatch_key:{_digest(launcher, dispatch_key)}"

    def code(self, code_hash: str) -> str:
        return f"{self._head}code:{code_hash}"

    def token(self, token_id: str) -> str:
        return f"{self.token_of}{token_id}"

    def tokens(self, owner: str) -> str:
        """Return the key of `user/NAME`'s or `site/NAME`'s."""
        return f"{self.tokens_of}{owner}"

    def callback(self, user: UserName, entry: str) -> str:
        return f"{self.callbacks_of}{user}/{entry}"

    def kind_of(self, key: str) -> KeyKind | None:
        """Return the kind of a key, or None when it is none of ours."""
        if not key.startswith(self._head):
            return None
        rest = key.removeprefix(self._head)
        return next((kind for kind in KEY_KINDS if _pattern(kind).fullmatch(rest)), None)

    def _of_stream(self, ref: StreamRef) -> StreamKeys:
        head = self._head
        return StreamKeys(
            items=f"{head}item:{ref}/",
            vms=f"{head}vm:",
            stream=f"{head}stream:{ref}",
            specs=f"{head}specs:{ref}",
            streams=self.streams(ref.user),
            ready=f"{head}ready:{ref}",
            ready_of=f"{head}ready:{ref}/",
            delayed=f"{head}delayed:{ref}",
            dispatched=f"{head}dispatched:{ref}",
            running=f"{head}running:{ref}",
            held=f"{head}held:{ref}",
            cancelled=f"{head}cancelled:{ref}",
            done=f"{head}done:{ref}",
            names=f"{head}names:{ref}",
            bulk=f"{head}bulk:{ref}",
            bulks=self.bulks,
            events=f"{head}events:{ref}",
            feed=self.feed(ref.user),
            life=self.life,
            bell=f"{self.bells}{ref}",
            ready_bell=self.ready_bell,
            ring=self.ring,
            user_ring=self.user_ring(ref.user),
            fair=f"{head}fair",
            account=self.account(ref.user),
            deadlines=self.deadlines,
            due=self.due,
            keep=self.keep,
            launchers=self.launchers,
            launchers_of=self.launchers_of,
            reports=self.reports,
            holds_of=self.holds_of,
            outbox=f"{self.outbox_of}{ref.user}",
            owed=f"{self.owed_of}{ref.user}",
            owing=self.owing,
            outbox_bell=self.outbox_bell,
        )


@lru_cache
def _pattern(kind: KeyKind) -> re.Pattern[str]:
    return re.compile(_WORD.sub(lambda word: _VARIABLES[word.group()], kind.name))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
