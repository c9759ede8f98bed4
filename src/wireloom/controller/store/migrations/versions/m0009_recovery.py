"""Hosts that were lost, and nodes that are restarted elsewhere."""

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is stored of them: they follow from topologies, and from what a controller itself has heard."""


def downgrade() -> None:
    """Nothing was stored."""
