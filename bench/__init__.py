"""Measurements of this machine: what a vm costs under the launcher, against the same vm without it."""
