"""What a device is: the schema of ``devices/*.yaml``. Knowledge is data; there is no code per device."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from pydantic import Field

from wireloom.errors import NotFound
from wireloom.model.base import Value
from wireloom.model.dialogue import Cli
from wireloom.model.ports import PortNaming

__all__ = [
    "ARCHITECTURES",
    "CPU_FLAGS",
    "KERNEL_ABILITIES",
    "Access",
    "Channel",
    "Console",
    "Day0",
    "Day0Method",
    "Device",
    "Extract",
    "Hardware",
    "ImageProfile",
    "LinkDown",
    "Member",
    "Need",
    "OwnChannel",
    "Probe",
    "ProviderRule",
    "ProviderSupport",
    "Range",
    "Readiness",
    "Recognition",
    "Secret",
    "Step",
]


Channel = Literal["exec", "serial", "ssh", "log", "file", "netconf"]

#: What one provider has and another may lack: channels, and ``health``, the engine's own check of a guest.
OwnChannel = Literal["exec", "serial", "file", "health"]

Day0Method = Literal["file", "bind", "iso", "fat", "nocloud", "configdrive", "smbios", "serial"]

#: What a device may need of its host: ``privileged``, ``kvm`` (acceleration that works), ``nested`` (guests can have
#: it as well), ``cpu:<flag>`` with one of :data:`CPU_FLAGS`, ``kernel:<ability>`` with one of :data:`KERNEL_ABILITIES`
#: or ``arch:<architecture>`` with one of :data:`ARCHITECTURES`.
Need = str

#: How a link that is down shows at a port.
LinkDown = Literal["carrier", "cut"]

#: CPU flags that hosts report and devices may need, as ``/proc/cpuinfo`` names them.
CPU_FLAGS: Final = (
    "vmx", "svm", "vnmi", "avic", "ept", "npt", "x2apic",
    "aes", "avx", "avx2", "avx512f", "bmi1", "bmi2", "f16c", "fma", "popcnt", "rdrand",
    "sse4_1", "sse4_2", "ssse3", "smep", "smap", "pdpe1gb",
)  # fmt: skip


#: What kernels of hosts are tried for and devices may need.
KERNEL_ABILITIES: Final = ("netem", "8021q", "vrf", "mpls")

#: Architectures of machines, as ``uname -m`` names them.
ARCHITECTURES: Final = ("x86_64", "aarch64")


class Range(Value):
    """A default and the bounds within which a device works; unit is the field's (cpus, MiB, GiB). 0: no bound."""

    default: float
    minimum: float = 0
    maximum: float = 0


class Hardware(Value):
    """Size of a node.

    :ivar cpu: cores; ``memory_mb``: MiB; ``disk_gb``: size of the system disk in GiB, 0: as the image has it.
    :ivar spare_ports: NICs that a VM gets up front so that links can be added live.
    :ivar min_ports: data NICs that are made even when fewer are linked, because the guest needs them.
    :ivar reserved_ports: NICs between the management port and the first data port that carry nothing.
    """

    cpu: Range = Range(default=1)
    memory_mb: Range = Range(default=256)
    disk_gb: Range = Range(default=0)
    spare_ports: int = 4
    min_ports: int = 0
    reserved_ports: int = 0


class Access(Value):
    """How one logs in to the guest: user and password of a fresh image, and the ports of SSH and NETCONF."""

    username: str = "root"
    password: str = ""
    enable_password: str = ""
    ssh_port: int = 22
    netconf_port: int = 830


class Step(Value):
    """One way to do something in a guest: over which channel, and the command as that channel takes it.

    ``{command}`` in ``run`` is replaced by what is asked for. What ``run`` means:

    * ``exec``: a command line for ``/bin/sh -c`` in the guest (an argument list asked for is run as it is);
    * ``ssh``: a command line; with ``prompt`` it is typed into an interactive SSH session instead, by the device's
      command-line description;
    * ``serial``: a line typed at ``prompt`` (empty: the home prompt) of the device's command line;
    * ``file``: the path of a file in the guest; ``netconf``: the datastore (``running``).

    Where a text is handed over (a configuration to load), ``exec`` and plain ``ssh`` get it on standard input, and
    typed channels get it line by line at ``prompt``, followed by the lines of ``finish``.

    :ivar parse: how bytes become text where they are none: ``iol-nvram``.
    :ivar timeout_s: on native speed; 0: the caller's.
    """

    channel: Channel
    run: str = "{command}"
    prompt: str = ""
    finish: tuple[str, ...] = ()
    parse: Literal["", "iol-nvram"] = ""
    timeout_s: float = 0


class Probe(Value):
    """One readiness test; ``kind`` says which of the fields apply.

    ``running``: the engine says so. ``log``: ``pattern`` in the console's log since power-on. ``serial``: a prompt of
    the device's command line (or ``pattern``) is on the serial line. ``exec``/``ssh``: the output of ``command``
    matches ``expect``. ``tcp``: ``port`` accepts on the management address. ``http``: GET ``path`` on ``port`` answers
    with a status below 400 and a body that matches ``expect``. ``health``: the engine's own health check.
    """

    kind: Literal["running", "log", "serial", "exec", "ssh", "tcp", "http", "health"]
    pattern: str = ""
    command: str = ""
    expect: str = ""
    port: int = 0
    path: str = "/"
    tls: bool = False


class Readiness(Value):
    """When a node counts as ready, and the time it may take in seconds on native speed.

    :ivar rule: of the probes whose channel the node has: the ``first`` decides, ``all`` must hold, or ``any``.
    :ivar slow_factor: emulated guests get so many times as long.
    """

    probes: tuple[Probe, ...] = ()
    rule: Literal["first", "all", "any"] = "first"
    timeout_s: float = 120
    slow_factor: float = 4
    interval_s: float = 1


class Day0(Value):
    """How the startup configuration reaches the guest.

    * ``file``: copied to ``path`` in the guest's file system before its first start;
    * ``bind``: written to the node's own storage, which is shown to the guest at the folder of ``path``;
    * ``iso``, ``fat``: a medium labelled ``label`` with the configuration as ``path``; ``attach`` says how the guest
      sees it. ``archive`` packs ``path`` into a ``.tar.gz`` of that name on the medium;
    * ``nocloud``, ``configdrive``: an ISO in cloud-init's layout, ``path`` being the user data's place;
    * ``smbios``: the text of ``template`` becomes the SMBIOS entry ``path`` (``system.product``);
    * ``serial``: loaded over the console after boot, by the device's ``load`` steps: the last resort.

    :ivar template: Jinja2 template of what is written to ``path``; ``config`` is the startup configuration. Empty:
        the configuration as it is.
    :ivar extra: further files, path to Jinja2 template.
    :ivar mime: ``path`` holds a MIME multipart message whose parts are ``extra`` (name to text) and the configuration,
        each with the content type that this table gives by name (``config`` is the configuration's).
    :ivar joliet: a CD has Joliet names beside those of Rock Ridge, as far as its label is at most 16 characters long.
    :ivar size_mb: size of a FAT disk.
    :ivar partition: a FAT disk has a partition table.
    """

    method: Day0Method
    path: str = ""
    label: str = "CIDATA"
    attach: Literal["cdrom", "usb", "disk"] = "cdrom"
    template: str = ""
    extra: dict[str, str] = {}
    archive: str = ""
    mime: dict[str, str] = {}
    mode: int = 0o644
    joliet: bool = True
    size_mb: int = 32
    partition: bool = False


class Console(Value):
    """What ``wireloom console`` opens: a command run in the guest, or serial line ``line``.

    A container's line 0 is the terminal of its first process.
    """

    kind: Literal["exec", "serial"]
    command: tuple[str, ...] = ()
    line: int = 0


class Extract(Value):
    """How the running configuration is read out, and what makes the text a configuration.

    :ivar steps: fallback chain.
    :ivar begins: regex of the first line that belongs to it; what comes before is dropped.
    :ivar ends: regex of the last line that belongs to it; without that line the text is not complete.
    :ivar drop: regexes of lines that change without a change of the configuration (dates, sizes).
    :ivar refuse: regexes of lines that show that it is an error text instead.
    """

    steps: tuple[Step, ...] = ()
    begins: str = ""
    ends: str = ""
    drop: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()


class ImageProfile(Value):
    """Where images whose name matches ``pattern`` in full differ from the device: between device and user.

    ``None`` and absent keys leave the device's value; ``settings`` are merged key by key, and a key set to ``null``
    (explicitly off) removes the device's.
    """

    pattern: str
    cpu: float | None = None
    memory_mb: float | None = None
    disk_gb: float | None = None
    settings: dict[str, Any] = {}


class ProviderSupport(Value):
    """A device on one provider: its default image and the provider's own settings (validated by the provider).

    Everything about the guest that is ``None`` here is the device's own.

    :ivar image: default image; empty when the user has to name one.
    :ivar images: profiles of images.
    :ivar env: environment variables of the first process, below those of the topology; each a Jinja2 template over
        the variables of day-0 files (without ``config``).
    :ivar hardware: where it differs from the device's on other providers.
    :ivar needs: what the host must have for it.
    """

    image: str
    images: tuple[ImageProfile, ...] = ()
    env: dict[str, str] = {}
    settings: dict[str, Any] = {}
    hardware: Hardware | None = None
    needs: tuple[Need, ...] = ()
    console: tuple[Console, ...] | None = None
    ready: Readiness | None = None
    day0: tuple[Day0, ...] | None = None
    run: tuple[Step, ...] | None = None
    extract: Extract | None = None
    load: tuple[Step, ...] | None = None
    post_boot: tuple[str, ...] | None = None


class Member(Value):
    """A further machine of a node that is made of several (a line card beside its control plane).

    :ivar name: ``fpc0``; the first machine of the node is the device itself.
    :ivar internal: names of networks inside the node that its NICs after the first join.
    :ivar ports: whether the node's data ports are on this machine.
    """

    name: str
    image: str = ""
    hardware: Hardware = Hardware()
    settings: dict[str, Any] = {}
    internal: tuple[str, ...] = ()
    ports: bool = False


class ProviderRule(Value):
    """What the catalogue knows of a provider, whatever the device.

    :ivar image_pattern: regex that the name of an image for it matches in full.
    :ivar image_example: said to a user whose image does not match.
    :ivar every_device: image by which every device can run on it (nothing of the device's own is booted).
    :ivar channels: the ways to a guest that are its own, not the network's; the log is everybody's.
    :ivar day0: the ways that it has to hand a startup configuration over before the first start.
    :ivar emulates: where the host does not accelerate it, its guests are emulated and take longer.
    """

    name: str
    title: str = ""
    image_pattern: str = ""
    image_example: str = ""
    every_device: str = ""
    channels: frozenset[OwnChannel] = frozenset(get_args(OwnChannel))
    day0: frozenset[Day0Method] = frozenset(get_args(Day0Method))
    emulates: bool = False


class Secret(Value):
    """A file that only its user has, such as a licence. The controller keeps it, and nodes get it when they are made.

    :ivar name: under which the user gives it. :ivar title: what it is, for people.
    :ivar path: where the guest finds it in its own file system; empty: not there.
    :ivar medium: where it is on the day-0 medium, where the node has one; empty: not there.
    :ivar optional: the guest starts without it.
    """

    name: str
    title: str = ""
    path: str = ""
    medium: str = ""
    mode: int = 0o600
    optional: bool = False

    def not_given(self, device: str, node: str) -> NotFound:
        """What a node of ``device`` that cannot do without it has to say."""
        return NotFound(
            f"device {device} needs {self.title or 'a file of yours'}, and the secret {self.name} was not given",
            node=node,
            hint=f"`wireloom images secret set {self.name} FILE`, then start the node",
            details={"secret": self.name},
        )


class Recognition(Value):
    """By what images of a device are known. Regexes, in any case; their group ``version`` tells the version.

    :ivar files: match a file's name in full, without the endings that say how it is packed (``.qcow2``, ``.tar.gz``).
    :ivar tags: match the name of a container's image in full: all of it, or what follows its last slash.
    :ivar labels: of a container's image, name to regex of the value in full.
    :ivar paths: match a path inside of a container's image in full, without a leading slash.
    :ivar volumes: match the label of a partition in full; ``text``: are found in what a binary says of itself.
    :ivar hints: are found anywhere in the name of a file or image: it may be the device, no more.
    :ivar images_of: another device whose images this one boots as well.
    :ivar cml: ids of the device in reference platforms; ``gns3``: its names there, in any case.
    :ivar own: a user said it, which counts more than what is built in.
    """

    files: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    paths: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    images_of: str = ""
    cml: tuple[str, ...] = ()
    gns3: tuple[str, ...] = ()
    own: bool = False


class Device(Value):
    """One kind of node. Order for every setting: device → image profile → topology defaults → node; explicit wins.

    A chain (``console``, ``day0``, ``run``, ``load``, steps of ``extract``) is tried in order; entries whose channel
    the node's provider lacks are skipped. It is declared once, for every provider.

    :ivar default_config: startup configuration of a node without one, a Jinja2 template.
        A ``.partial`` configuration is put after it.
    :ivar post_boot: commands run over the ``run`` chain once per boot after readiness, before the user's own.
    :ivar members: further machines of the node; such devices cannot be deployed yet.
    :ivar recognise: by what its images are known when they come into the library.
    :ivar secrets: files of the user's own that its nodes are given.
    :ivar hidden: not listed unless asked for;
    :ivar sources: where its facts come from, for the reference page.
    :ivar notes: what a user should know of it, in Markdown.
    :ivar link_down: what a link that is down does to this device's port: ``carrier`` takes its carrier, like a pulled
        cable; ``cut`` leaves the carrier and passes no frame, for devices that put a port which flaps out of use.
    """

    name: str
    title: str = ""
    vendor: str = ""
    family: Literal["router", "switch", "firewall", "host", "wireless", "controller", "balancer", "any"] = "router"
    aliases: tuple[str, ...] = ()
    icon: str = "router"
    hidden: bool = False
    ports: PortNaming = PortNaming()
    hardware: Hardware = Hardware()
    providers: dict[str, ProviderSupport] = Field(default_factory=dict)
    default_provider: str = ""
    access: Access = Access()
    cli: Cli | None = None
    console: tuple[Console, ...] = ()
    ready: Readiness = Readiness(probes=(Probe(kind="running"),))
    day0: tuple[Day0, ...] = ()
    run: tuple[Step, ...] = ()
    extract: Extract = Extract()
    load: tuple[Step, ...] = ()
    post_boot: tuple[str, ...] = ()
    default_config: str = ""
    members: tuple[Member, ...] = ()
    recognise: Recognition = Recognition()
    secrets: tuple[Secret, ...] = ()
    sources: tuple[str, ...] = ()
    notes: str = ""
    stop_grace_s: float = 5
    link_down: LinkDown = "carrier"

    def hardware_on(self, provider: str) -> Hardware:
        """CPU, memory and ports of this device on ``provider``."""
        support = self.providers.get(provider)
        return self.hardware if support is None or support.hardware is None else support.hardware

    def on(self, provider: str) -> ProviderSupport:
        """This device on ``provider``, with everything resolved: no field about the guest is ``None``."""
        support = self.providers[provider]
        guest = ("console", "ready", "day0", "run", "extract", "load", "post_boot")
        own = {name: getattr(self, name) for name in guest if getattr(support, name) is None}
        return support.model_copy(update={**own, "hardware": self.hardware_on(provider)})
