"""Disks of virtual machines: what comes in becomes a qcow2 file that stands alone.

=============  ================================================================================
``accepting``  the course of it
``qcow2``      the strict reader of headers, and what a guest sees
``vmdk``       VMware's sparse files; ``vhd``, ``vhdx``: Microsoft's
``ova``        archives of a machine; ``ovf``: their descriptions
``labels``     labels of partitions and file systems
``qemu_img``   QEMU's program, bounded and confined
=============  ================================================================================
"""

from wireloom.library.disks.accepting import accept, disk_labels, stands_alone

__all__ = ["accept", "disk_labels", "stands_alone"]
