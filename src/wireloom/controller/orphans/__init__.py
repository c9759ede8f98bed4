"""What lies on hosts and belongs to no lab: found, removed, or made a lab again."""

from wireloom.controller.orphans.adoption import Adoption
from wireloom.controller.orphans.finds import Orphans

__all__ = ["Adoption", "Orphans"]
