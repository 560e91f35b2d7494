"""Callbacks: researchers' servers are told of settled items."""
