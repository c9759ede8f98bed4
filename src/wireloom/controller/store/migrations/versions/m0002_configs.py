"""The config store."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "config_texts",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_config_texts"),
    )
    _create_nodes()
    _create_revisions()
    op.create_table(
        "config_policies",
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("extract_every_s", sa.Float(), nullable=True),
        sa.Column("keep", sa.Integer(), nullable=True),
        sa.Column("keep_days", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["lab_id"], ["labs.id"], name="fk_config_policies_lab_id_labs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lab_id", name="pk_config_policies"),
    )


def downgrade() -> None:
    for table in ("config_policies", "config_revisions", "config_nodes", "config_texts"):
        op.drop_table(table)


def _create_nodes() -> None:
    op.create_table(
        "config_nodes",
        sa.Column("node_id", sa.String(12), nullable=False),
        sa.Column("lab_id", sa.String(12), nullable=False),
        sa.Column("lab", sa.String(63), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=True),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("chosen", sa.String(64), nullable=False),
        sa.Column("choice", sa.Integer(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("extracted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("node_id", name="pk_config_nodes"),
    )
    op.create_index("ix_config_nodes_lab", "config_nodes", ["lab"])


def _create_revisions() -> None:
    op.create_table(
        "config_revisions",
        sa.Column("node_id", sa.String(12), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("lab", sa.String(63), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("tried", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"],
            ["config_nodes.node_id"],
            name="fk_config_revisions_node_id_config_nodes",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sha256"], ["config_texts.sha256"], name="fk_config_revisions_sha256_config_texts"),
        sa.PrimaryKeyConstraint("node_id", "number", name="pk_config_revisions"),
    )
    op.create_index("ix_config_revisions_sha256", "config_revisions", ["sha256"])
