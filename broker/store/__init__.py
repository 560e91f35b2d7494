"""What is true about items: a Redis 7.0 or newer, or a Valkey. The only package that imports its client."""

from broker.store.answers import Bell, Claimed, Dispatched, EventBatch, Grown, Lease, MachineFacts, Ready
from broker.store.dispatching import MAX_HEARD, Presence
from broker.store.embedded import EmbeddedStore
from broker.store.forgetting import Forgotten
from broker.store.items import SpecChanged
from broker.store.launcher_jobs import KnownJobs
from broker.store.launchers import KnownLauncher
from broker.store.prospects import Prospect
from broker.store.secrets import Sealed
from broker.store.store import Store
from broker.store.token_records import Login, NewRecord

__all__ = [
    "MAX_HEARD",
    "Bell",
    "Claimed",
    "Dispatched",
    "EmbeddedStore",
    "EventBatch",
    "Forgotten",
    "Grown",
    "KnownJobs",
    "KnownLauncher",
    "Lease",
    "Login",
    "MachineFacts",
    "NewRecord",
    "Presence",
    "Prospect",
    "Ready",
    "Sealed",
    "SpecChanged",
    "Store",
]
