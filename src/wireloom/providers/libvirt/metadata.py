"""Labels in a domain's definition: how a domain is found again, whatever happened to us or to the engine.

Two elements, because libvirt replaces an element of metadata as a whole: ``node`` never changes after creation,
``run`` is written anew by each start (and its ``released`` mark exists only on the live domain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from wireloom.model.identity import LABEL_INCARNATION, LABEL_SPEC, Identity
from wireloom.model.runtime import RuntimeSpec

__all__ = ["NODE_NAMESPACE", "RUN_NAMESPACE", "Labels", "Run", "node_element", "read_labels", "read_run"]

NODE_NAMESPACE: Final = "urn:wireloom:libvirt:node:1"
RUN_NAMESPACE: Final = "urn:wireloom:libvirt:run:1"

ET.register_namespace("wireloom", NODE_NAMESPACE)
ET.register_namespace("wireloom-run", RUN_NAMESPACE)


@dataclass(frozen=True)
class Labels:
    """What :func:`node_element` recorded."""

    identity: Identity
    incarnation: int
    spec_hash: str


@dataclass(frozen=True)
class Run:
    """The last start of a domain: when, in UNIX seconds, and whether its gate was opened (live domains only)."""

    started_at: float
    released: bool = False

    def to_xml(self) -> str:
        """The element as ``virDomainSetMetadata`` takes it (libvirt adds the name space)."""
        attributes = {"started-at": f"{self.started_at:.3f}", "released": "yes" if self.released else "no"}
        return ET.tostring(ET.Element("run", attributes), encoding="unicode")


def node_element(spec: RuntimeSpec) -> ET.Element:
    """The metadata element with every label of ``spec``."""
    labels = spec.identity.labels() | {LABEL_INCARNATION: str(spec.incarnation), LABEL_SPEC: spec.spec_hash}
    element = ET.Element(f"{{{NODE_NAMESPACE}}}node")
    for name, value in sorted(labels.items()):
        ET.SubElement(element, f"{{{NODE_NAMESPACE}}}label", {"name": name}).text = value
    return element


def read_labels(domain: ET.Element) -> Labels | None:
    """The labels of a parsed domain; ``None`` for a domain that is not ours."""
    element = domain.find(f"metadata/{{{NODE_NAMESPACE}}}node")
    if element is None:
        return None
    labels = {label.get("name", ""): label.text or "" for label in element}
    identity = Identity.from_labels(labels)
    incarnation = labels.get(LABEL_INCARNATION, "")
    if identity is None or not incarnation.isdecimal():
        return None
    return Labels(identity=identity, incarnation=int(incarnation), spec_hash=labels.get(LABEL_SPEC, ""))


def read_run(domain: ET.Element) -> Run | None:
    """The last start of a parsed domain; ``None`` when it was never started."""
    element = domain.find(f"metadata/{{{RUN_NAMESPACE}}}run")
    if element is None:
        return None
    return Run(started_at=float(element.get("started-at", "0")), released=element.get("released") == "yes")
