"""The image library: images, what they serve, what has to go from hosts, uploads, jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("content", sa.String(71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("virtual_size", sa.BigInteger(), nullable=False),
        sa.Column("architecture", sa.String(32), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("problem", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("needs", sa.JSON(), nullable=False),
        sa.Column("proposals", sa.JSON(), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("verified_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("name", name="uq_images_name"),
    )
    op.create_index("ix_images_digest", "images", ["digest"])
    _create_uses()
    _create_work()


def downgrade() -> None:
    for table in ("jobs", "uploads", "removals", "wishes", "defaults", "devices"):
        op.drop_table(f"image_{table}")
    op.drop_table("images")


def _create_uses() -> None:
    op.create_table(
        "image_devices",
        sa.Column("image_id", sa.String(12), nullable=False),
        sa.Column("device", sa.String(63), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_image_devices_image_id_images", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "device", name="pk_image_devices"),
    )
    op.create_table(
        "image_defaults",
        sa.Column("device", sa.String(63), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("image_id", sa.String(12), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_image_defaults_image_id_images", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device", "provider", name="pk_image_defaults"),
    )
    op.create_table(
        "image_wishes",
        sa.Column("image_id", sa.String(12), nullable=False),
        sa.Column("host", sa.String(63), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_image_wishes_image_id_images", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "host", name="pk_image_wishes"),
    )
    op.create_table(
        "image_removals",
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("content", sa.String(71), nullable=False),
        sa.Column("pin", sa.JSON(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", "provider", "name", "content", name="pk_image_removals"),
    )


def _create_work() -> None:
    op.create_table(
        "image_uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.String(12), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_uploads"),
    )
    op.create_index("ix_image_uploads_expires_at", "image_uploads", ["expires_at"])
    op.create_table(
        "image_jobs",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.Column("view", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_image_jobs"),
    )
    op.create_index("ix_image_jobs_state", "image_jobs", ["state"])
