"""Hosts: labels, whether they take nodes, keys of their agents, tokens to join."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("hosts") as hosts:
        hosts.add_column(sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
        hosts.add_column(sa.Column("cordoned", sa.Boolean(), nullable=False, server_default=sa.false()))
        hosts.add_column(sa.Column("cordon_reason", sa.Text(), nullable=False, server_default=""))
        hosts.add_column(sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false()))
        hosts.add_column(sa.Column("joined_at", sa.Float(), nullable=True))
    op.create_table(
        "host_keys",
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("token_id", sa.String(12), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("public_key", name="pk_host_keys"),
    )
    op.create_index("ix_host_keys_host", "host_keys", ["host"])
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_join_tokens"),
    )
    op.create_index("ix_join_tokens_expires_at", "join_tokens", ["expires_at"])


def downgrade() -> None:
    op.drop_table("join_tokens")
    op.drop_table("host_keys")
    with op.batch_alter_table("hosts") as hosts:
        for column in ("joined_at", "draining", "cordon_reason", "cordoned", "labels"):
            hosts.drop_column(column)
