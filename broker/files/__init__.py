"""Bytes on the broker's own disk: users' files, images, and what was said by vms.

Nothing is ever seen half-written: bytes go to a file of their own, are made durable, and are then given their name.
Memory stays flat, whatever the size.
"""
