"""Launchers as jobs of a batch system: HTCondor, Slurm, PBS.

`submitting` makes a submission of an order and hands it to a system; `provisioner` does so again and again, in step
with what is ready. The three systems are one protocol (`job.BatchSystem`), and nothing outside their modules knows how
they are spoken to. None of this runs on a worker node, and none of it needs libvirt.
"""
