"""The researcher's desktop: what virsh tells of its machines, and what qemu-img makes of their disks.

Only the desktop's own `virsh` and `qemu-img` are asked: no library of libvirt's is needed, and a `broker` that only
pushes work needs neither. A machine's own files are only ever read. What is changed is a copy in a scratch folder; the
one exception is a snapshot of a running machine (`live`), which is taken back whatever happens.

Images name other files: backing files, data files, extents. QEMU would follow every such name, a network address too,
so each layer is looked at before QEMU opens it, and only files of this desktop are followed.
"""
