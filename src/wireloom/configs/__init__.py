"""Configurations of nodes as text: what makes one valid, and what can be done with several. Pure.

* ``validate.py``: from what a channel read to the text of a configuration, or the reason why it is none.
* ``content.py``: content hash and differences.
* ``nvram.py`` and ``lzw.py``: the startup configuration in the NVRAM file of an emulated IOS.
* ``archive.py``: several configurations as one file; ``mapping.py``: to whom a deleted node's ones could go.
* ``policy.py``: which revision is active after an extract, which ones may go, when the next extract is due.
"""

from wireloom.configs.archive import ArchivedConfig, zip_configs
from wireloom.configs.content import digest, unified_diff
from wireloom.configs.mapping import Keeper, Suggestion, suggest
from wireloom.configs.nvram import parse_iol_nvram
from wireloom.configs.validate import MAX_CONFIG_BYTES, clean, normalised

__all__ = [
    "MAX_CONFIG_BYTES",
    "ArchivedConfig",
    "Keeper",
    "Suggestion",
    "clean",
    "digest",
    "normalised",
    "parse_iol_nvram",
    "suggest",
    "unified_diff",
    "zip_configs",
]
