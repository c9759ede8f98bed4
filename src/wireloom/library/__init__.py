"""Formats of images: what is stored, what is let in, what it is. Knows files, and nothing of labs, hosts or databases.

=================  =============================================================================================
``values``         what its parts give each other: limits, progress, facts, an accepted image
``bounded``        commands and functions in processes with limits of memory, time and file size
``blobs``          a folder of files by the digest of their content, resumable while they come
``sniff``          what a file is, by its content
``unpack``         compressed files, within ratio limits
``bundles``        tar files of vendors around one image
``disks``          qcow2 and what becomes it
``archives``       Docker and OCI archives, file trees, and what is inside of them
``identify``       which device an image is, from names and facts; pure
``media``          reference-platform ISOs and appliance files: what they offer, and the devices they make
``iol``            IOL binaries and the images that are built of them
=================  =============================================================================================
"""
