"""Wires across hosts: when the number of a tunnel was given up, and the secret that pairs of hosts get theirs from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("vni_leases") as leases:
        leases.add_column(sa.Column("released", sa.Integer(), nullable=True))
    with op.batch_alter_table("installation") as installation:
        installation.add_column(sa.Column("pair_secret", sa.String(64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("installation") as installation:
        installation.drop_column("pair_secret")
    with op.batch_alter_table("vni_leases") as leases:
        leases.drop_column("released")
