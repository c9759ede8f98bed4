"""Nodes of a topology file: defaults applied, devices resolved, mistakes reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wireloom.devices import DeviceCatalogue
from wireloom.errors import InvalidInput
from wireloom.model.device import Device, Need, ProviderSupport
from wireloom.model.provenance import Origin
from wireloom.model.slice import Bind, Condition, RestartPolicy
from wireloom.model.topology import NodeSpec, Position
from wireloom.planning.hardware import Profile, Said, limits, resolve
from wireloom.planning.topology.fields import BindFields, DefaultsFields, NodeFields, TopologyFields
from wireloom.planning.topology.images import LibraryImages, check_image
from wireloom.planning.topology.names import check_name
from wireloom.planning.topology.settings import check_settings
from wireloom.planning.topology.startup import StartupText, startup_of
from wireloom.yamlfile import Bound, Path, did_you_mean

__all__ = ["NodeReader", "check_cycles", "check_waits"]

RESERVED_LABELS = "wireloom."


#: Kinds of readiness probe that need a management address.
_OVER_NETWORK = frozenset({"ssh", "tcp", "http"})


class NodeReader:
    """Reads every node of one file. ``readable`` holds, by name, the device of each node whose ports are known."""

    def __init__(
        self,
        bound: Bound[TopologyFields],
        fields: TopologyFields,
        files: Mapping[str, str],
        devices: DeviceCatalogue,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        images: LibraryImages | None,
    ) -> None:
        self._bound = bound
        self._fields = fields
        self._defaults = fields.defaults or DefaultsFields()
        self._files = files
        self._devices = devices
        self._schemas = schemas
        self._images = images
        self.readable: dict[str, Device | None] = {}

    def read_all(self) -> tuple[NodeSpec, ...]:
        nodes: list[NodeSpec] = []
        folded: dict[str, str] = {}
        for name, fields in (self._fields.nodes or {}).items():
            check_name(self._bound, ("nodes", name), name, "node")
            first = folded.setdefault(name.casefold(), name)
            if first != name:
                message = f"node {name!r} differs from {first!r} only in case, and host names have none"
                self._bound.report(("nodes", name), message, "rename one of them", at_key=True)
            node = _OneNode(self, name, fields or NodeFields()).read()
            if node is not None:
                nodes.append(node)
        return tuple(nodes)

    # What a single node needs of the file around it.

    @property
    def bound(self) -> Bound[TopologyFields]:
        return self._bound

    @property
    def devices(self) -> DeviceCatalogue:
        return self._devices

    @property
    def defaults(self) -> DefaultsFields:
        return self._defaults

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(self._fields.nodes or {})

    @property
    def management(self) -> bool:
        return self._fields.mgmt is not False

    def file(self, path: str) -> str | None:
        return self._files.get(path)

    def schema(self, provider: str) -> Mapping[str, Any] | None:
        return self._schemas.get(provider)

    @property
    def images(self) -> LibraryImages | None:
        return self._images


class _OneNode:
    """One node being read. Every check reports and goes on, so that one run finds all mistakes."""

    def __init__(self, reader: NodeReader, name: str, fields: NodeFields) -> None:
        self._reader = reader
        self._bound = reader.bound
        self._name = name
        self._fields = fields
        self._defaults = reader.defaults

    def read(self) -> NodeSpec | None:
        device = self._device()
        self._reader.readable[self._name] = device
        self._check_labels()
        depends_on = self._depends_on()
        if device is None:
            return None
        provider = self._provider(device)
        if provider is None:
            return None
        support = device.on(provider)
        image = self._image(device, provider, support)
        profile = self._profile(device, provider, image)
        startup = self._startup(device, provider, support)
        return NodeSpec(
            name=self._name,
            device=device.name,
            provider=provider,
            image=image,
            cpu=profile.cpu,
            memory_mb=profile.memory_mb,
            host=self._pick("host"),
            host_labels=self._merged("host_labels"),
            apart=tuple(dict.fromkeys(self._pick("apart") or ())),
            apart_preferred=tuple(dict.fromkeys(self._pick("apart_preferred") or ())),
            startup_config=startup.text,
            startup_template=startup.template,
            env={**support.env, **self._merged("env")},
            binds=self._binds(),
            exec=tuple(self._pick("exec") or ()),
            labels=self._merged("labels"),
            depends_on=depends_on,
            restart=RestartPolicy(self._pick("restart") or RestartPolicy.ON_FAILURE),
            position=self._position(),
            settings=profile.settings,
            spare_ports=profile.spare_ports,
            management=self._management(device),
            extract_on_stop=self._pick("extract_on_stop") is not False,
            disk_gb=profile.disk_gb,
            needs=support.needs,
            image_needs=self._image_needs(provider, image),
            secrets=tuple(secret for secret in device.secrets if not secret.optional),
            machines=self._machines(device, provider),
            origins={
                **profile.origins,
                "image": self._image_origin(device, provider),
                "provider": self._choice("provider", device, ("default-provider",)),
            },
        )

    def _pick(self, field: str) -> Any:
        """The node's own value, else that of ``defaults``."""
        own = getattr(self._fields, field)
        return own if own is not None else getattr(self._defaults, field)

    def _merged(self, field: str) -> dict[str, str]:
        return {**(getattr(self._defaults, field) or {}), **(getattr(self._fields, field) or {})}

    def _where(self, field: str) -> Path:
        """The path of a value: in the node when it is given there, else in ``defaults``, else the node itself."""
        attribute = field.replace("-", "_")
        if getattr(self._fields, attribute) is not None:
            return ("nodes", self._name, field)
        if getattr(self._defaults, attribute, None) is not None:
            return ("defaults", field)
        return ("nodes", self._name)

    def _flagged(self, field: str) -> bool:
        return self._bound.flagged("nodes", self._name, field) or self._bound.flagged("defaults", field)

    def _device(self) -> Device | None:
        written = self._pick("device")
        if written is None:
            if not self._flagged("device"):
                suggestion = "add `device: …`; `generic` takes any image"
                self._bound.report(("nodes", self._name), f"node {self._name!r} has no device", suggestion, at_key=True)
            return None
        device = self._reader.devices.find(written)
        if device is None:
            where = self._where("device")
            self._bound.report(where, f"there is no device {written!r}", self._reader.devices.suggest(written))
        return device

    def _provider(self, device: Device) -> str | None:
        written: str | None = self._pick("provider")
        if written is None:
            return device.default_provider
        if written in device.providers:
            return written
        known = {*device.providers, *self._reader.devices.rules}
        message = (
            f"device {device.name!r} does not run on {written!r}"
            if written in known
            else f"there is no provider {written!r}"
        )
        self._bound.report(self._where("provider"), message, did_you_mean(written, device.providers))
        return None

    def _image(self, device: Device, provider: str, support: ProviderSupport) -> str:
        image: str | None = self._pick("image")
        if image is None:
            own = self._library_default(device, provider) or support.image
            if not own and not self._flagged("image"):
                rule = self._reader.devices.rules.get(provider)
                example = f", e.g. `image: {rule.image_example}`" if rule is not None and rule.image_example else ""
                message = f"device {device.name!r} has no image of its own on {provider}"
                unsure = self._reader.images is None  # the library, which nobody asked, may have one
                where = ("nodes", self._name)
                self._bound.report(where, message, f"name one{example}", at_key=True, warning=unsure)
            return own
        check_image(
            self._bound,
            self._where("image"),
            image,
            provider=provider,
            device=device,
            rules=self._reader.devices.rules,
        )
        return image

    def _library_default(self, device: Device, provider: str) -> str:
        known = self._reader.images
        return "" if known is None else known.defaults.get((device.name, provider), "")

    def _image_needs(self, provider: str, image: str) -> tuple[Need, ...]:
        known = self._reader.images
        return () if known is None else known.needs.get((provider, image), ())

    def _said_by_image(self, provider: str, image: str) -> Said:
        """An image that needs to run privileged does, where the provider knows of that and nobody says otherwise."""
        known = (self._reader.schema(provider) or {}).get("properties", {})
        needed = "privileged" in self._image_needs(provider, image) and "privileged" in known
        return Said("library", settings={"privileged": True} if needed else {})

    def _profile(self, device: Device, provider: str, image: str) -> Profile:
        """Size and settings with every layer applied, those outside of what the device works with reported."""
        self._check_settings(provider)
        profile = resolve(
            self._reader.devices.entry(device.name),
            device,
            provider,
            image,
            [self._said_by_image(provider, image), self._said("defaults", provider), self._said("node", provider)],
        )
        for limit in limits(device, provider, image, profile):
            self._bound.report(self._where(limit.key), limit.message, limit.suggestion)
        return profile

    def _said(self, layer: Literal["defaults", "node"], provider: str) -> Said:
        holder = self._defaults if layer == "defaults" else self._fields
        top: Path = ("defaults",) if layer == "defaults" else ("nodes", self._name)
        below = ("settings", provider) if layer == "defaults" else ("settings",)
        shared = (self._defaults.settings or {}).get(provider, {})

        def where(key: str) -> str:
            path = (*below, key.removeprefix("settings.")) if key.startswith("settings.") else (key,)
            return self._line(*top, *path)

        return Said(
            layer=layer,
            sizes={
                "cpu": holder.cpu, "memory": holder.memory, "disk": holder.disk, "spare-ports": holder.spare_ports,
            },
            settings=shared if layer == "defaults" else self._fields.settings or {},
            where=where,
        )  # fmt: skip

    def _line(self, *path: str | int) -> str:
        place = self._bound.place(*path)
        return f"{self._bound.document.file}:{place.mark.line}" if place else self._bound.document.file

    def _image_origin(self, device: Device, provider: str) -> Origin:
        found = self._choice("image", device, ("providers", provider, "image"))
        of_topology = found.layer in {"node", "defaults"}
        return Origin(layer="library") if self._library_default(device, provider) and not of_topology else found

    def _choice(self, field: Literal["image", "provider"], device: Device, place: Path) -> Origin:
        """Where the node's image or provider comes from; ``place``: of the value in the device's file."""
        if getattr(self._fields, field) is not None:
            return Origin(layer="node", where=self._line("nodes", self._name, field))
        if getattr(self._defaults, field) is not None:
            return Origin(layer="defaults", where=self._line("defaults", field))
        return self._reader.devices.entry(device.name).origin(place)

    def _startup(self, device: Device, provider: str, support: ProviderSupport) -> StartupText:
        startup = self._pick("startup_config")
        if startup is None:
            return StartupText(template=device.default_config)
        where = self._where("startup-config")
        rule = self._reader.devices.rules.get(provider)
        stands_in = rule is not None and bool(rule.every_device)
        if not support.day0 and not stands_in:
            message = f"device {device.name!r} takes no startup configuration on {provider}"
            self._bound.report(where, message, "use `exec` for commands after its start", at_key=True)
        if startup.inline is not None:
            return StartupText(text=str(startup.inline))
        content = self._reader.file(startup.path)
        if content is None:
            suggestion = "give its path relative to this file, or the configuration itself as a block (`|`)"
            self._bound.report(where, f"there is no file {startup.path!r}", suggestion)
            return StartupText()
        try:
            return startup_of(startup.path, content, device.default_config)
        except InvalidInput as error:
            self._bound.report(where, error.message, error.hint)
            return StartupText()

    def _binds(self) -> tuple[Bind, ...]:
        given: list[BindFields] = self._pick("binds") or []
        where = self._where("binds")
        for position, bind in enumerate(given):
            for side in (bind.source, bind.target):
                if not side.startswith("/"):
                    self._bound.report((*where, position), f"{side!r} is not an absolute path", "begin it with '/'")
        return tuple(Bind(source=item.source, target=item.target, read_only=item.read_only) for item in given)

    def _check_labels(self) -> None:
        for holder, path in ((self._fields, ("nodes", self._name)), (self._defaults, ("defaults",))):
            for label in holder.labels or {}:
                if label.startswith(RESERVED_LABELS):
                    message = f"labels that begin with {RESERVED_LABELS!r} are Wireloom's own"
                    self._bound.report((*path, "labels", label), message, "choose another name", at_key=True)

    def _depends_on(self) -> dict[str, Condition]:
        wanted: dict[str, Condition] = {}
        path = ("nodes", self._name, "depends-on")
        names = self._reader.node_names
        for position, (other, condition) in enumerate((self._fields.depends_on or {}).items()):
            where = _dependency_path(self._bound, path, position, other)
            if other == self._name:
                self._bound.report(where, f"node {other!r} depends on itself", "remove it", at_key=True)
            elif other not in names:
                others = [name for name in names if name != self._name]
                self._bound.report(where, f"there is no node {other!r}", did_you_mean(other, others), at_key=True)
            else:
                wanted[other] = Condition(condition)
        return wanted

    def _position(self) -> Position | None:
        given = self._fields.position
        return None if given is None else Position(x=given.x, y=given.y)

    def _check_settings(self, provider: str) -> None:
        schema = self._reader.schema(provider)
        if schema is None:
            return
        layers: tuple[tuple[Path, dict[str, Any]], ...] = (
            (("defaults", "settings", provider), (self._defaults.settings or {}).get(provider, {})),
            (("nodes", self._name, "settings"), self._fields.settings or {}),
        )
        for path, values in layers:
            said = {key: value for key, value in values.items() if value is not None}  # null turns a setting off
            for below, message, suggestion, at_key in check_settings(schema, said):
                self._bound.report((*path, *below), f"{provider}: {message}", suggestion, at_key=at_key)

    def _machines(self, device: Device, provider: str) -> tuple[str, ...]:
        """Further machines of the node; a provider that stands in for every device needs none."""
        rule = self._reader.devices.rules.get(provider)
        if not device.members or (rule is not None and rule.every_device):
            return ()
        names = tuple(member.name for member in device.members)
        message = f"device {device.name!r} is made of several machines (also {', '.join(names)})"
        self._bound.report(
            self._where("device"), f"{message} and cannot be deployed yet", "`provider: simulated`", warning=True
        )
        return names

    def _management(self, device: Device) -> bool:
        given: bool | None = self._pick("mgmt")
        return device.ports.management is not None and self._reader.management and given is not False


def _dependency_path(bound: Bound[TopologyFields], path: Path, position: int, other: str) -> Path:
    """Lists and mappings are both allowed: the path of the entry as it was written."""
    place = bound.place(*path)
    is_list = place is not None and isinstance(place.node.data(), list)
    return (*path, position) if is_list else (*path, other)


def check_waits(bound: Bound[TopologyFields], nodes: Sequence[NodeSpec], devices: DeviceCatalogue) -> None:
    """Report each dependency on the readiness of a node of which it can never be told: it would wait for ever."""
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        for position, (name, condition) in enumerate(node.depends_on.items()):
            other = by_name.get(name)
            if condition is not Condition.READY or other is None:
                continue
            why = _never_ready(other, devices)
            if why:
                where = _dependency_path(bound, ("nodes", node.name, "depends-on"), position, name)
                message = f"node {name!r} never becomes ready: {why}"
                bound.report(where, message, f"wait until it runs: `{name}: running`", at_key=True)


def _never_ready(node: NodeSpec, devices: DeviceCatalogue) -> str:
    device = devices.get(node.device)
    support = device.providers.get(node.provider)
    probes = (device.ready if support is None or support.ready is None else support.ready).probes
    if not probes:
        return f"device {node.device!r} declares no probe"
    if not node.management and all(probe.kind in _OVER_NETWORK for probe in probes):
        return "it is asked on the management network, which it is not on"
    return ""


def check_cycles(bound: Bound[TopologyFields], fields: TopologyFields) -> None:
    """Report each cycle in ``depends-on`` once, spelled out."""
    nodes = fields.nodes or {}
    edges = {
        name: [d for d in (node and node.depends_on) or {} if d in nodes and d != name] for name, node in nodes.items()
    }
    for cycle in _cycles(edges):
        path = ("nodes", cycle[0], "depends-on")
        bound.report(path, f"depends-on goes round in a circle: {' → '.join(cycle)}", "remove one of them", at_key=True)


def _cycles(edges: Mapping[str, list[str]]) -> list[list[str]]:
    """One cycle per knot of nodes that wait for each other, found depth first without recursion."""
    done: set[str] = set()
    found: list[list[str]] = []
    for start in edges:
        trail: list[str] = []
        stack = [(start, iter(edges[start]))] if start not in done else []
        on_trail = {start} if stack else set()
        trail = [start] if stack else []
        while stack:
            node, following = stack[-1]
            step = next((other for other in following if other not in done), None)
            if step is None:
                stack.pop()
                trail.pop()
                on_trail.discard(node)
                done.add(node)
            elif step in on_trail:
                found.append([*trail[trail.index(step) :], step])
            else:
                stack.append((step, iter(edges[step])))
                trail.append(step)
                on_trail.add(step)
    return found
