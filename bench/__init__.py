"""Measurements of this machine: what a vm costs under the launcher, and in `bench.broker` what the broker can do."""
