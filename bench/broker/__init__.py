"""Measurements of the broker on this machine, beside its peers and beside servers that do nothing."""
