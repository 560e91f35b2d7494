"""Who is it, and may they: tokens of people and launchers, tickets and leases of vms, signed addresses of files.

Nothing here looks anything up: a token, ticket or address proves itself by a signature made with keys that live in
0600 files outside of the store. What can be revoked or spent is decided by the store.
"""
