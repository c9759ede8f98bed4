"""The schema. The migrations under ``migrations/`` are what makes it; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

__all__ = [
    "cli_definitions",
    "config_nodes",
    "config_policies",
    "config_revisions",
    "config_texts",
    "controllers",
    "host_keys",
    "hosts",
    "image_defaults",
    "image_devices",
    "image_jobs",
    "image_removals",
    "image_uploads",
    "image_wishes",
    "images",
    "installation",
    "join_tokens",
    "lab_hosts",
    "lab_leases",
    "labs",
    "link_impairments",
    "metadata",
    "moves",
    "nat_leases",
    "node_definitions",
    "nodes",
    "operations",
    "revisions",
    "vni_leases",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _lab_key(*, primary_key: bool = False) -> Column[str]:
    reference = ForeignKey("labs.id", ondelete="CASCADE")
    return Column("lab_id", String(12), reference, nullable=False, primary_key=primary_key)


installation = Table(
    "installation",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("pair_secret", String(64), nullable=True),
)

labs = Table(
    "labs",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("removing", Boolean, nullable=False),
    Column("allow_privileged", Boolean, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    _lab_key(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("topology", Text, nullable=False),
    Column("files", JSON, nullable=False),
    Column("source", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(12), primary_key=True),
    _lab_key(),
    Column("name", String(63), nullable=False),
    Column("device", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("host", String(63), nullable=False),
    Column("power", String(3), nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("attention", Integer, nullable=False),
    Column("mgmt_ipv4", String(15), nullable=True),
    Column("ports", Integer, nullable=True),
    Column("problem", JSON(none_as_null=True), nullable=True),
    UniqueConstraint("lab_id", "name"),
    UniqueConstraint("host", "mgmt_ipv4"),
)

#: Hosts that may hold something of a lab: written before a slice is published, deleted when the host is seen empty.
lab_hosts = Table(
    "lab_hosts",
    metadata,
    _lab_key(primary_key=True),
    Column("host", String(63), primary_key=True),
)

#: What must be known of a host even while its agent is away.
hosts = Table(
    "hosts",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("management_subnet", String(18), nullable=False),
    Column("labels", JSON, nullable=False, server_default="{}"),
    Column("cordoned", Boolean, nullable=False, server_default=false()),
    Column("cordon_reason", Text, nullable=False, server_default=""),
    Column("draining", Boolean, nullable=False, server_default=false()),
    Column("joined_at", Float, nullable=True),
)

#: Public keys of agents. No foreign key: a revoked key is remembered for good, and so refused for good.
host_keys = Table(
    "host_keys",
    metadata,
    Column("public_key", String(64), primary_key=True),
    Column("host", String(63), nullable=False, index=True),
    Column("token_id", String(12), nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("revoked_at", Float, nullable=True),
)

#: One-time rights to join. ``host``: the only name that may join by it; empty: any name that is free.
join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("host", String(63), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("note", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

#: Nodes that move; see :mod:`wireloom.model.moves`. ``node_id`` has no foreign key: rows of nodes are written anew.
moves = Table(
    "moves",
    metadata,
    Column("id", String(12), primary_key=True),
    _lab_key(),
    Column("node_id", String(12), nullable=False, index=True),
    Column("source", String(63), nullable=False),
    Column("target", String(63), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("token", String(64), nullable=False),
    Column("error", JSON(none_as_null=True), nullable=True),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)

#: No foreign key: the record of a destroyed lab's last operation outlives the lab.
operations = Table(
    "operations",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("lab_id", String(12), nullable=False, index=True),
    Column("lab", String(63), nullable=False),
    Column("verb", String(16), nullable=False),
    Column("goal", String(16), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("targets", JSON, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("errors", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
)

#: VXLAN network identifiers, one per wire across hosts. ``released``: generation of the lab from which on the wire has
#: none; the number is free again when every host of the lab has come that far.
vni_leases = Table(
    "vni_leases",
    metadata,
    Column("vni", Integer, primary_key=True, autoincrement=False),
    Column("link_id", String(32), nullable=False, unique=True),
    _lab_key(),
    Column("released", Integer, nullable=True),
)

#: Texts of configurations by the hash of their content: each is stored once.
config_texts = Table(
    "config_texts",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("content", Text, nullable=False),
)

#: No foreign key to labs or nodes: configurations outlive both, under the names that they had.
config_nodes = Table(
    "config_nodes",
    metadata,
    Column("node_id", String(12), primary_key=True),
    Column("lab_id", String(12), nullable=False),
    Column("lab", String(63), nullable=False, index=True),
    Column("node", String(63), nullable=False),
    Column("device", Text, nullable=False),
    Column("active", Integer, nullable=True),
    Column("origin", String(8), nullable=False),
    Column("chosen", String(64), nullable=False),
    Column("choice", Integer, nullable=False),
    Column("last_number", Integer, nullable=False),
    Column("extracted_at", Float, nullable=True),
)

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("node_id", String(12), ForeignKey("config_nodes.node_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("lab", String(63), nullable=False),
    Column("node", String(63), nullable=False),
    Column("sha256", String(64), ForeignKey("config_texts.sha256"), nullable=False, index=True),
    Column("origin", String(8), nullable=False),
    Column("who", Text, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("tried", JSON, nullable=False),
    Column("note", Text, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
)

config_policies = Table(
    "config_policies",
    metadata,
    _lab_key(primary_key=True),
    Column("extract_every_s", Float, nullable=True),
    Column("keep", Integer, nullable=True),
    Column("keep_days", Float, nullable=True),
)

#: What users set by verbs beside the topology; ``link_id`` is that of a link or of a plug. ``until``: when the first
#: direction of it ends.
link_impairments = Table(
    "link_impairments",
    metadata,
    _lab_key(primary_key=True),
    Column("link_id", String(32), primary_key=True),
    Column("impairment", JSON, nullable=False),
    Column("until", Float, nullable=True, index=True),
)

#: Subnets of segments with address translation, chosen by us or by the user: no two of an installation are the same.
nat_leases = Table(
    "nat_leases",
    metadata,
    Column("subnet", String(18), primary_key=True),
    Column("segment_id", String(32), nullable=False, unique=True),
    _lab_key(),
)

#: What nodes were deployed with; see :mod:`wireloom.controller.intents`.
node_definitions = Table(
    "node_definitions",
    metadata,
    _lab_key(primary_key=True),
    Column("node_id", String(12), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("definition", JSON, nullable=False),
)

cli_definitions = Table(
    "cli_definitions",
    metadata,
    _lab_key(primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("definition", JSON, nullable=False),
)

#: Names of the library. ``digest`` is that of the stored file, which several images may have in common.
images = Table(
    "images",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("provider", String(32), nullable=False),
    Column("format", String(16), nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("content", String(71), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("virtual_size", BigInteger, nullable=False),
    Column("architecture", String(32), nullable=False),
    Column("version", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("problem", JSON(none_as_null=True), nullable=True),
    Column("needs", JSON, nullable=False),
    Column("proposals", JSON, nullable=False),
    Column("provenance", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("verified_at", Float, nullable=False),
)


def _image_key(*, primary_key: bool = False) -> Column[str]:
    reference = ForeignKey("images.id", ondelete="CASCADE")
    return Column("image_id", String(12), reference, nullable=False, primary_key=primary_key)


image_devices = Table(
    "image_devices",
    metadata,
    _image_key(primary_key=True),
    Column("device", String(63), primary_key=True),
)

#: One image a device and provider: what its nodes take that name none.
image_defaults = Table(
    "image_defaults",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("provider", String(32), primary_key=True),
    _image_key(),
)

#: Images that users want on a host ahead of any need.
image_wishes = Table(
    "image_wishes",
    metadata,
    _image_key(primary_key=True),
    Column("host", String(63), primary_key=True),
)

#: Images that were deleted and that a host may still have, until it says that it has not.
image_removals = Table(
    "image_removals",
    metadata,
    Column("host", String(63), primary_key=True),
    Column("provider", String(32), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("content", String(71), primary_key=True),
    Column("pin", JSON, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
)

#: How much of an upload is there is told by its file alone.
image_uploads = Table(
    "image_uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("file", Text, nullable=False),
    Column("size", BigInteger, nullable=True),
    Column("sha256", String(64), nullable=False),
    Column("token", String(64), nullable=False),
    Column("options", JSON, nullable=False),
    Column("job_id", String(12), nullable=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False, index=True),
)

#: ``request`` holds no credentials; ``view`` is the job as users see it.
image_jobs = Table(
    "image_jobs",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("request", JSON, nullable=False),
    Column("memory", JSON, nullable=False),
    Column("view", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float, nullable=True),
)

#: Controllers that are at work; ``lease_until``: until when it leads, by the clock of the database.
controllers = Table(
    "controllers",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("url", Text, nullable=False),
    Column("lease_until", Float, nullable=False),
)

#: Which controller leads a lab; the lab without an id is the installation itself. ``term`` grows with each change.
lab_leases = Table(
    "lab_leases",
    metadata,
    Column("lab_id", String(12), primary_key=True),
    Column("controller_id", String(12), nullable=False, index=True),
    Column("term", Integer, nullable=False),
)
