"""Guest images from Debian packages: no loop device, no mounted image, no privileges beyond a user namespace.

A recipe turns packages and the files of this folder into one qcow2 disk with a boot loader of its own. What it makes is
named by the digest of those files, so a built image is found again until one of them changes.

Clean roots and trees of programs (`programs.py`) are made of packages in the same way.
"""
