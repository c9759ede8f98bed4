"""Impairments of links, leased subnets, and the definitions that nodes were deployed with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "link_impairments",
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("link_id", sa.String(32), nullable=False),
        sa.Column("impairment", sa.JSON(), nullable=False),
        sa.Column("until", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name="fk_link_impairments_lab_id_labs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lab_id", "link_id", name="pk_link_impairments"),
    )
    op.create_index("ix_link_impairments_until", "link_impairments", ["until"])
    op.create_table(
        "nat_leases",
        sa.Column("subnet", sa.String(18), nullable=False),
        sa.Column("segment_id", sa.String(32), nullable=False),
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name="fk_nat_leases_lab_id_labs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("subnet", name="pk_nat_leases"),
        sa.UniqueConstraint("segment_id", name="uq_nat_leases_segment_id"),
    )
    _create_definitions("node_definitions", "node_id", sa.String(12))
    _create_definitions("cli_definitions", "name", sa.String(63))


def downgrade() -> None:
    for table in ("cli_definitions", "node_definitions", "nat_leases", "link_impairments"):
        op.drop_table(table)


def _create_definitions(table: str, key: str, kind: sa.types.TypeEngine[str]) -> None:
    op.create_table(
        table,
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column(key, kind, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name=f"fk_{table}_lab_id_labs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lab_id", key, name=f"pk_{table}"),
    )
