"""YAML files that people write: read with positions, checked against a model, every mistake found at once.

``tree`` turns text into nodes with positions, within bounds; ``bind`` fills a model from them and says what does
not fit. Nothing here knows topologies or devices.
"""

from wireloom.yamlfile.bind import Bound, FileModel, bind
from wireloom.yamlfile.locate import Path, Place, locate, path_text
from wireloom.yamlfile.suggest import did_you_mean
from wireloom.yamlfile.tree import Document, Entry, Mapping, Node, Scalar, Sequence, read_yaml

__all__ = [
    "Bound",
    "Document",
    "Entry",
    "FileModel",
    "Mapping",
    "Node",
    "Path",
    "Place",
    "Scalar",
    "Sequence",
    "bind",
    "did_you_mean",
    "locate",
    "path_text",
    "read_yaml",
]
