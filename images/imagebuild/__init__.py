"""Reference images from distribution packages: containers and bootable disks with the same content.

::

    recipes ── apt ──> .deb files ── rootfs ──> one file tree per image
                                                   ├── container ──> docker archive
                                                   └── kernel, disk ──> bootable qcow2
    store: names results by build key, so that an unchanged recipe builds nothing

Only the standard library and the distribution's own tools are used; nothing is mounted, and no
program of a package runs on the build host but busybox (to list its applets).
"""
