"""Async client of the broker's HTTP API: for the command line, the launcher and the guest.

It travels into every vm, so it imports aiohttp, msgspec and the standard library, and of those no more than it uses.
"""
