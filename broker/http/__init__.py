"""The HTTP API: one route table, handlers that parse, act and render, and what they wait with.

Handlers decide nothing about an item's life: the store does, in one atomic act. What is decided here is who may ask.
"""
