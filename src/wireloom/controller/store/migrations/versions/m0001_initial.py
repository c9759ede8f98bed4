"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    _create_labs()
    _create_nodes()
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("management_subnet", sa.String(18), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
    )
    _create_operations()
    op.create_table(
        "vni_leases",
        sa.Column("vni", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("link_id", sa.String(32), nullable=False),
        sa.Column("lab_id", sa.String(12), nullable=False),
        _of_lab("vni_leases"),
        sa.PrimaryKeyConstraint("vni", name="pk_vni_leases"),
        sa.UniqueConstraint("link_id", name="uq_vni_leases_link_id"),
    )


def downgrade() -> None:
    for table in ("vni_leases", "operations", "hosts", "lab_hosts", "nodes", "revisions", "labs", "installation"):
        op.drop_table(table)


def _of_lab(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name=f"fk_{table}_lab_id_labs", ondelete="CASCADE")


def _create_labs() -> None:
    op.create_table(
        "labs",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("removing", sa.Boolean(), nullable=False),
        sa.Column("allow_privileged", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_labs"),
        sa.UniqueConstraint("name", name="uq_labs_name"),
    )
    op.create_table(
        "revisions",
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("topology", sa.Text(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        _of_lab("revisions"),
        sa.PrimaryKeyConstraint("lab_id", "number", name="pk_revisions"),
    )
    op.create_table(
        "lab_hosts",
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("host", sa.String(63), nullable=False),
        _of_lab("lab_hosts"),
        sa.PrimaryKeyConstraint("lab_id", "host", name="pk_lab_hosts"),
    )


def _create_nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("power", sa.String(3), nullable=False),
        sa.Column("incarnation", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("attention", sa.Integer(), nullable=False),
        sa.Column("mgmt_ipv4", sa.String(15), nullable=True),
        sa.Column("ports", sa.Integer(), nullable=True),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        _of_lab("nodes"),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.UniqueConstraint("lab_id", "name", name="uq_nodes_lab_id_name"),
        sa.UniqueConstraint("host", "mgmt_ipv4", name="uq_nodes_host_mgmt_ipv4"),
    )


def _create_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("lab", sa.String(63), nullable=False),
        sa.Column("verb", sa.String(16), nullable=False),
        sa.Column("goal", sa.String(16), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_index("ix_operations_lab_id", "operations", ["lab_id"])
    op.create_index("ix_operations_state", "operations", ["state"])
