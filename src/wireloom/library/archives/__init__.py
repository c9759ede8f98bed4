"""Images of containers as files: what is let in, the one form that is stored, and what is inside.

==============  ================================================================================================
``accepting``   the way in: read whole, held against its digests, written in the canonical form
``layout``      which image an archive holds, by Docker's manifest or OCI's index
``documents``   JSON, bounded before it is parsed
``outer``       an archive's members, each a part of the file
``tars``        a strict reader of tar files; ``headers`` and ``paths`` are what it is strict about
``rules``       what a layer may hold
``findings``    what the files of an image tell of it
``writer``      the canonical archive
``inner``       layers and disks out of an archive
``streams``     parts of files, unpacked and counted on the way
==============  ================================================================================================

All functions block; they belong into worker threads.
"""

from wireloom.library.archives.accepting import accept
from wireloom.library.archives.inner import disks_inside, extract_disk, extract_layers, read_config
from wireloom.library.archives.values import ArchiveConfig, InnerDisk, architectures
from wireloom.library.archives.writer import write_archive

__all__ = [
    "ArchiveConfig",
    "InnerDisk",
    "accept",
    "architectures",
    "disks_inside",
    "extract_disk",
    "extract_layers",
    "read_config",
    "write_archive",
]
