"""The launcher of vmbroker: an agent on a worker node that boots one vm for one item and reports what became of it."""
