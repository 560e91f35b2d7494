"""What a launcher tells of itself, and what operators and sites see of launchers."""

from enum import StrEnum

from broker.wire.dispatches import Room
from broker.wire.kinds import Message
from broker.wire.states import HealthCode, HealthState

MAX_LABELS = 32
MAX_LABEL_CHARS = 128
MAX_USERS = 100


class ListedState(StrEnum):
    """What launchers are listed by: the state of a node whose launcher is there, or that its launcher is gone."""

    HEALTHY = "healthy"
    BACKING_OFF = "backing_off"
    CANARY = "canary"
    EXCLUDED = "excluded"
    DRAINING = "draining"
    GONE = "gone"


class Health(Message, frozen=True, kw_only=True):
    """How the node is, by its launcher's own account. `code` is absent while all is well."""

    state: HealthState = HealthState.HEALTHY
    code: HealthCode | None = None
    sentence: str = ""
    faults: int = 0
    """Ends of vms in a row that were the node's fault."""
    since: str | None = None
    """RFC 3339: when this state began."""
    retry_at: str | None = None
    """RFC 3339: when it will ask for an item again; absent where it asks now, or never again."""


class LauncherReport(Message, frozen=True, kw_only=True):
    """`PUT /v1/launchers/{name}`: the launcher is there, and how it is; at every heartbeat and at each change."""

    node: str
    client: str = ""
    total: Room
    """What it lends when nothing runs; `time_left_ms` as of now."""
    free: Room | None = None
    """What it could give one more vm; absent when nothing."""
    vms: int = 0
    health: Health = Health()
    labels: dict[str, str] = {}
    contact: str = ""
    """Whom to write to about this node, in the site's own words."""
    users: tuple[str, ...] = ()
    """Whom the site serves; empty: everybody whom the token covers."""


class LauncherTold(Message, frozen=True, kw_only=True):
    """The answer to a report: when the next is due."""

    next_ms: int


class LauncherView(Message, frozen=True, kw_only=True):
    """One launcher as `GET /v1/launchers` shows it. `launcher` is TOKEN'S NAME/ITS OWN NAME."""

    launcher: str
    node: str
    heard_at: str
    is_gone: bool
    """Not heard for longer than the launchers' grace; `report` is then what it told last."""
    report: LauncherReport


class LauncherPage(Message, frozen=True, kw_only=True):
    """`GET /v1/launchers`: those heard in the last day, those that are there first. `cursor` absent: no more.

    Only an operator and the launcher's own site see its `contact`, its `users` and the sentence of its health.
    """

    launchers: list[LauncherView]
    cursor: str | None = None
