"""The canary: how few vms of a stream boot until one of them has shown that its machine comes up.

A machine that never claims would otherwise take as many nodes as the stream has items, each for a whole boot. So each
pair of a stream's spec revision and its machine's revision is on probation until one vm of it has claimed: till then
only `CANARIES` of its items are dispatched at once. One that ends without a claim makes room for the next, so a stream
is slowed down and never stopped; the bound on boots holds its items in the end.
"""

from typing import Final

CANARIES: Final = 2
"""Two, because one may meet a sick node."""
FAULTY_NODES: Final = 2
"""When vms of one machine's revision failed by its own fault on so many nodes, and none has claimed since, the stream
is paused: a person has to look."""
