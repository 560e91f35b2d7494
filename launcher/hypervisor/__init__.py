"""Everything the launcher asks of a hypervisor, in a few verbs; the only package that imports libvirt.

`private_daemon` starts a libvirtd of the launcher's own, `hypervisor` speaks with it (or with one that the site
names), and `accelerator` finds out, without libvirt, whether KVM really works here.
"""
