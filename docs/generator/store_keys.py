"""The page of what there is in the store."""

import inspect

from broker.store import Store
from broker.store.key_kinds import KEY_KINDS
from broker.store.keys import SHARD_TAG
from docs.generator.layout import code, page, table


def store_keys() -> str:
    """Return the page of the store's keys."""
    head = f"{inspect.signature(Store.connect).parameters['prefix'].default}:{SHARD_TAG}:"
    rows = ((code(kind.name), kind.type, kind.life, kind.holds) for kind in KEY_KINDS)
    return page(
        "Keys of the store",
        f"For operators who look into the Valkey or Redis behind a broker. Every name begins with `{head}`; "
        "the hash tag keeps all of it in one slot, so that one script may touch all that an act needs. Capitals stand "
        "for what varies; `NUMBER` is an item's, `REVISION` a stream's spec's, `GENERATION` tells a ready item's entry "
        "from a stale one, `PLACE` is its place among all ready ones of the stream. Times are milliseconds of the "
        "store's clock.",
        "Read as you like, change nothing by hand: counts, lists and events are kept in step by the scripts alone. "
        f"Beside the keys there are channels: one for each stream, `{head}bell:USER/NAME`, on which it is told that "
        f"its event log grew; `{head}ready_bell`, on which it is that items became ready; `{head}peers`, on which a "
        f"broker's processes ask each other what launchers offer to them, each answered on one of its own, "
        f"`{head}peers:` and its name. Secrets are not in the store, only digests of them.",
        table(("name", "type", "life", "holds"), rows),
    )
