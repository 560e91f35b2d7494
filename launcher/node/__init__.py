"""The launcher's work: offer room, take an item, boot its vm, watch it, report one verdict, remove everything.

`slot` knows what the node lends, `agent` keeps the offers going, `vm_run` is the way of one vm, `verdicts` turns what
was seen into the one coded outcome.
"""
