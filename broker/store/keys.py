"""Names of everything in the store: the only place that builds one. `key_kinds` lists what there is and its life.

Every name carries the hash tag `{s0}`, so that an act may touch all it needs in one script. Some names are prefixes:
a script that learns an item's number, a dispatch's id, a spec's revision or the name of a machine, a secret, a launcher
or its token on its way appends it to `items`, `vms`, `ready_of`, `machines_of` or `machine_streams_of`, `secrets_of`,
`reports` or `launchers_of`, `told_of` or `submitters_of`, `token_of` or
`tokens_of`, `holds_of`; one that learns users on its way, their names to the prefixes of the outbox.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

from broker.store.key_kinds import KeyKind, kind_of
from broker.wire.names import DispatchId, ItemRef, MachineRef, OwnedName, StreamRef, UserName

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
        return kind_of(key.removeprefix(self._head))

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


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
