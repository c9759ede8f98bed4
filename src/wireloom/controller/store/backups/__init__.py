"""Whole databases carried: into a file, out of a file, and from one database to another.

=================  ==========================================================================================
module             what
=================  ==========================================================================================
``values``         what a backup says about itself
``connections``    databases opened for this: one transaction each, and whether somebody else has them open
``reading``        rows of a database in one consistent picture
``archive``        the file: a zip archive of rows as JSON lines, with a manifest
``loading``        rows into an empty database: schema of their revision, rows, then all later migrations
``work``           the verbs: upgrade, backup, restore, copy
=================  ==========================================================================================
"""

from wireloom.controller.store.backups.values import FORMAT, BackupManifest, TableRows
from wireloom.controller.store.backups.work import Carried, Upgraded, backup, copy, restore, upgrade

__all__ = ["FORMAT", "BackupManifest", "Carried", "TableRows", "Upgraded", "backup", "copy", "restore", "upgrade"]
