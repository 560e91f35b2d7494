"""What crosses HTTP and the guest's port: names, states, messages, problem codes, events.

Pure data, shared by the broker, the launcher and the guest. It imports only msgspec and the standard library's pure
parts, because it travels into every VM. Times are RFC 3339 UTC strings or integer milliseconds, sizes integer bytes.
"""
