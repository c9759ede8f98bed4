"""What may stand in a topology file: the one source of its JSON Schema, its reference page and its reader."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from wireloom.model.underlay import Encryption
from wireloom.planning.topology.link_fields import LinkField, LinkFields, Mtu, PositionField, SegmentFields
from wireloom.yamlfile import FileModel
from wireloom.yamlfile.durations import Duration
from wireloom.yamlfile.tree import BlockText
from wireloom.yamlfile.values import Cpu, Disk, Memory, TextMap, Word, plain, wrong

__all__ = [
    "BindFields",
    "DefaultsFields",
    "HostLossFields",
    "LinkFields",
    "NodeFields",
    "SegmentFields",
    "Startup",
    "TopologyFields",
]


class Startup(FileModel):
    """A startup configuration: its text, or the path of the file that holds it."""

    inline: str | None = None
    path: str | None = None


class BindFields(FileModel):
    """A host path shown in the guest."""

    source: str = Field(description="absolute path on the host")
    target: str = Field(description="absolute path in the guest")
    read_only: bool = Field(False, description="the guest may only read")


def _startup(value: Any) -> Any:
    """A block scalar or several lines are the configuration itself, one line is the name of a file."""
    if isinstance(value, BlockText) or (isinstance(value, str) and "\n" in value):
        return {"inline": str(value)}
    if isinstance(value, str):
        if not value.strip():
            raise wrong("the name of a file, or the configuration as a block, is expected here", "begin with `|`")
        return {"path": value}
    if value is None:
        return None
    raise wrong("the name of a file, or the configuration as a block, is expected here", "begin with `|`")


def _bind(value: Any) -> Any:
    """``/host/path:/guest/path[:ro|:rw]``."""
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) not in {2, 3} or (len(parts) == 3 and parts[2] not in {"ro", "rw"}):
        raise wrong(f"{value!r} is not a bind", "write /host/path:/guest/path or /host/path:/guest/path:ro")
    return {"source": parts[0], "target": parts[1], "read-only": parts[2:] == ["ro"]}


def _depends_on(value: Any) -> Any:
    """A list of names means: wait until they are ready."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return dict.fromkeys(value, "ready")
    if isinstance(value, str):
        return {value: "ready"}
    return value


def _groups(value: Any) -> Any:
    """One name alone stands for a list of it."""
    return [value] if isinstance(value, str) else value


_STRING = {"type": "string"}

StartupField = Annotated[Startup | None, BeforeValidator(_startup), WithJsonSchema(_STRING)]
BindField = Annotated[BindFields, BeforeValidator(_bind)]
DependsOn = Annotated[
    dict[str, Literal["running", "ready"]],
    BeforeValidator(_depends_on),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "array", "items": _STRING},
                {"type": "object", "additionalProperties": {"enum": ["running", "ready"]}},
            ]
        }
    ),
]
Groups = Annotated[
    list[Word],
    BeforeValidator(_groups),
    WithJsonSchema({"oneOf": [_STRING, {"type": "array", "items": _STRING}]}),
]
Settings = Annotated[dict[str, Any], AfterValidator(plain)]
SparePorts = Annotated[int, Field(ge=0, le=64)]
Restart = Literal["always", "on-failure", "never"]


class _Common(FileModel):
    """What a node may say and `defaults` may say for all nodes."""

    device: Word | None = Field(None, description="kind of the node, by name or alias", examples=["frr", "linux"])
    image: Word | None = Field(
        None,
        description="what the node boots; the device's own image when it is not given",
        examples=["quay.io/frrouting/frr:10.2.1", "router.qcow2"],
    )
    provider: Word | None = Field(
        None,
        description="technology that runs the node; the device's own choice when it is not given",
        examples=["docker", "libvirt"],
    )
    cpu: Cpu | None = Field(None, description="cores; fractions where the provider can", examples=[0.5, 2])
    memory: Memory | None = Field(
        None, description="`512MB`, `2GiB` or a number of MiB (MB and MiB mean the same)", examples=["512MB"]
    )
    disk: Disk | None = Field(
        None,
        description="size that the system disk is grown to: `20GB` or a number of GiB; 0 leaves it as the image has it",
        examples=["20GB"],
    )
    host: Word | None = Field(None, description="name of the host to run on; placement chooses when it is not given")
    host_labels: TextMap | None = Field(None, description="labels that its host must have", examples=[{"rack": "b"}])
    apart: Groups | None = Field(
        None,
        description="group, or groups, of which no two nodes are on one host; the file's own words",
        examples=["spines"],
    )
    apart_preferred: Groups | None = Field(
        None, description="as `apart`, but two nodes share a host where there is no other way"
    )
    startup_config: StartupField = Field(
        None,
        description="the configuration as a block (`|`), or the path of a file, relative to this file; `*.j2` is a "
        "template, and `*.partial` or `*.partial.*` comes after the device's default configuration",
        examples=["r1.cfg", "spine.cfg.j2", "ntp.partial.cfg"],
    )
    env: TextMap | None = Field(None, description="environment variables")
    binds: list[BindField] | None = Field(
        None, description="host paths shown in the guest: `/host/path:/guest/path[:ro]`"
    )
    exec: list[str] | None = Field(None, description="commands run in the guest once per boot, after it is ready")
    labels: TextMap | None = Field(None, description="words of your own; `wireloom.` is reserved")
    restart: Restart | None = Field(
        None, description="what happens when the node ends by itself; `on-failure` when it is not given"
    )
    spare_ports: SparePorts | None = Field(
        None,
        description="ports made up front beyond those in use, where they cannot be added to a running node; "
        "the device's own number when it is not given",
    )
    mgmt: bool | None = Field(None, description="whether the node is on the management network; true by default")
    extract_on_stop: bool | None = Field(
        None, description="whether its configuration is read and stored before it is stopped; true by default"
    )


class NodeFields(_Common):
    """One node."""

    depends_on: DependsOn | None = Field(
        None,
        description="nodes to wait for at every start: a list of names (until ready), or name: running|ready",
    )
    position: PositionField | None = Field(None, description="where the studio draws it: `[x, y]`")
    settings: Settings | None = Field(
        None, description="settings of the node's provider; these win over the device's, and `null` turns one off"
    )


class DefaultsFields(_Common):
    """Values for every node, link and segment that does not say otherwise."""

    mtu: Mtu | None = Field(None, description="bytes, for every link and segment")
    settings: dict[str, Settings] | None = Field(
        None, description="provider settings by provider", examples=[{"docker": {"tty": False}}]
    )


class HostLossFields(FileModel):
    """What becomes of nodes whose host is not heard any more."""

    restart_elsewhere_after: Duration | None = Field(
        None,
        description="time after which they are started on other hosts; the lost host stops them by itself before, and "
        "they begin with the configuration that was stored last. They are waited for when it is not given",
        examples=["5m"],
    )


class TopologyFields(FileModel):
    """A lab: its nodes, its segments and the links between them."""

    name: Word | None = Field(None, description="name of the lab; letters, digits and hyphens", examples=["two-hosts"])
    description: Word | None = Field(None, description="a sentence for people")
    mgmt: bool | None = Field(None, description="false takes every node off the management network")
    defaults: DefaultsFields | None = Field(None, description="values for all nodes and links")
    on_host_loss: HostLossFields | None = Field(
        None, description="what becomes of its nodes when their host is lost; they are waited for when it is not given"
    )
    link_encryption: Encryption | None = Field(
        None,
        description="what hides the frames of links between hosts: `none`, or `wireguard`, which their kernels must "
        "have; as the installation does it when it is not given",
    )
    nodes: dict[str, NodeFields | None] | None = Field(None, description="the nodes by name")
    segments: dict[str, SegmentFields | None] | None = Field(
        None, description="shared media by name: switches, the world outside, ways out"
    )
    links: list[LinkField] | None = Field(None, description="the links")
