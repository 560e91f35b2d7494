"""What a node tells its batch system of vms: whether a launcher runs here, and what it would offer.

HTCondor's startd and a glidein run `launcher advertise` every few minutes and put what it prints into the slot's ad. So
it is quick, ends in time whatever the node does, and has an answer for every node: "no, because…" is one.
"""
