"""Pure decisions: what may happen to an item, when it is tried again, where it fits, who may do what.

No I/O, no clock, no asyncio: everything a decision needs is an argument, so each is tested as a table.
"""
