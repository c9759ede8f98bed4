"""Controllers, and which of them leads which lab."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "controllers",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_controllers"),
    )
    op.create_table(
        "lab_leases",
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("controller_id", sa.String(12), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("lab_id", name="pk_lab_leases"),
    )
    op.create_index("ix_lab_leases_controller_id", "lab_leases", ["controller_id"])


def downgrade() -> None:
    op.drop_table("lab_leases")
    op.drop_table("controllers")
