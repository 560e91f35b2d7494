"""Measurements of bytes into the broker and out of it, beside nginx, and of pushes to streams with targets."""
