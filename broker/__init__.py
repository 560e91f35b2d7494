"""The broker of vmbroker: streams of items, the HTTP API over them, and the `broker` command."""
