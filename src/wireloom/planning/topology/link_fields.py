"""What may stand in a topology file about links and segments."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from wireloom.model.quantities import DELAY, RATE, SHARE, Quantity
from wireloom.model.vlans import HIGHEST_VLAN
from wireloom.yamlfile import FileModel
from wireloom.yamlfile.values import TextMap, Word, wrong

__all__ = ["DirectionFields", "ImpairmentFields", "LinkField", "LinkFields", "Mtu", "PositionField", "SegmentFields"]

MTU_MINIMUM: Final = 68  # RFC 791: every IPv4 link carries at least this
MTU_MAXIMUM: Final = 65535
_RANGE: Final = re.compile(r"([0-9]+)(?:\s*-\s*([0-9]+))?")

_NUMBER: Final = {"type": "number"}


class PositionFields(FileModel):
    """Where the studio draws it."""

    x: Annotated[float, Field(allow_inf_nan=False)]
    y: Annotated[float, Field(allow_inf_nan=False)]


def _position(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) != 2:
            raise wrong("a position has two numbers", "write [x, y]")
        return {"x": value[0], "y": value[1]}
    return value


def _quantity(kind: Quantity, *, least: float, most: float) -> BeforeValidator:
    """Reads ``kind`` with its unit; a bare 0 needs none. Bounds are in the base unit, the lower one not for 0."""

    def read(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return value
        try:
            found = kind.parse(str(value))
        except ValueError as error:
            message, _, suggestion = str(error).partition(": ")
            raise wrong(message, suggestion) from None
        if found > most or 0 < found < least:
            raise wrong(f"{value} is out of range", f"from {kind.format(least)} to {kind.format(most)}, or 0")
        return found

    return BeforeValidator(read)


def _trunk(value: Any) -> Any:
    """VLANs as ranges: ``[10, 20-29]``, a single VLAN or a single range."""
    items = value if isinstance(value, list) else [value]
    return [_range(item) for item in items]


def _range(item: Any) -> tuple[int, int]:
    match = _RANGE.fullmatch(str(item).strip()) if isinstance(item, int | str) else None
    if match is None or isinstance(item, bool):
        raise wrong(f"{item!r} is not a VLAN nor a range of VLANs", "write a number, or first-last as in 20-29")
    first, last = int(match.group(1)), int(match.group(2) or match.group(1))
    if not 1 <= first <= last <= HIGHEST_VLAN:
        raise wrong(f"{item} is no range of VLANs", f"VLANs are 1 to {HIGHEST_VLAN}, the lower one first")
    return first, last


def _link(value: Any) -> Any:
    return {"endpoints": value} if isinstance(value, list) else value


def _preset(value: Any) -> Any:
    """The name of a preset alone."""
    return {"preset": value} if isinstance(value, str) else value


Mtu = Annotated[int, Field(ge=MTU_MINIMUM, le=MTU_MAXIMUM)]
Vlan = Annotated[int, Field(ge=1, le=HIGHEST_VLAN)]
PositionField = Annotated[
    PositionFields,
    BeforeValidator(_position),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
                {
                    "type": "object",
                    "properties": {"x": _NUMBER, "y": _NUMBER},
                    "required": ["x", "y"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
_VLANS_SCHEMA: Final = {
    "oneOf": [
        {"type": "integer", "minimum": 1, "maximum": HIGHEST_VLAN},
        {"type": "string", "pattern": "^[0-9]+(\\s*-\\s*[0-9]+)?$"},
    ]
}
Trunk = Annotated[
    list[tuple[int, int]],
    BeforeValidator(_trunk),
    Field(min_length=1),
    WithJsonSchema({"oneOf": [{"type": "array", "items": _VLANS_SCHEMA, "minItems": 1}, *_VLANS_SCHEMA["oneOf"]]}),
]


def _written(kind: Quantity) -> WithJsonSchema:
    return WithJsonSchema({"oneOf": [{"type": "string", "pattern": kind.pattern}, {"type": "integer", "enum": [0]}]})


Delay = Annotated[float, _quantity(DELAY, least=0.001, most=600_000), _written(DELAY)]
Jitter = Annotated[float, _quantity(DELAY, least=0.001, most=2_147), _written(DELAY)]
Share = Annotated[float, _quantity(SHARE, least=0.0001, most=100), _written(SHARE)]
Rate = Annotated[float, _quantity(RATE, least=1, most=400_000_000), _written(RATE)]
Limit = Annotated[int, Field(ge=0, le=10_000_000)]


class DirectionFields(FileModel):
    """What is wrong with the frames of one direction."""

    preset: Word | None = Field(
        None, description="name of a ready-made impairment; the other keys change parts of it", examples=["lte"]
    )
    delay: Delay | None = Field(None, description="added to each frame: `50ms`, `1s`, `500us`", examples=["50ms"])
    jitter: Jitter | None = Field(None, description="more or less delay, at random; needs a delay", examples=["5ms"])
    loss: Share | None = Field(None, description="share of the frames that get lost", examples=["1%"])
    duplicate: Share | None = Field(None, description="share of the frames that arrive twice", examples=["1%"])
    corrupt: Share | None = Field(None, description="share of the frames with a wrong bit", examples=["0.1%"])
    reorder: Share | None = Field(
        None, description="share of the frames that overtake those that wait; needs a delay", examples=["25%"]
    )
    rate: Rate | None = Field(None, description="`64kbit`, `10mbit` or `1gbit` per second", examples=["10mbit"])
    limit: Limit | None = Field(None, description="frames that may wait for their delay or for the rate")


class ImpairmentFields(DirectionFields):
    """What is wrong with a link on purpose: the same in both directions, or each direction its own."""

    forward: Annotated[DirectionFields | None, BeforeValidator(_preset)] = Field(
        None, description="from the first end to the second"
    )
    backward: Annotated[DirectionFields | None, BeforeValidator(_preset)] = Field(
        None, description="from the second end to the first"
    )


class LinkFields(FileModel):
    """A link: `[r1:eth1, r2:eth1]`, or `[r1:eth1, lan]` into a segment, or this long form."""

    endpoints: Annotated[list[str], Field(min_length=2, max_length=2)] = Field(
        description="both ends as `node:interface`, the interface as the vendor writes it or as the kernel does; "
        "one of them may be the name of a segment"
    )
    mtu: Mtu | None = Field(None, description="bytes; 1500 when it is not given; links to a segment have the segment's")
    down: bool | None = Field(None, description="true for a link that starts without carrier")
    vlan: Vlan | None = Field(None, description="into a switch: an access port of this VLAN")
    trunk: Trunk | None = Field(None, description="into a switch: a trunk of these VLANs", examples=[[10, "20-29"]])
    native: Vlan | None = Field(
        None, description="of a trunk: the VLAN of frames without a tag; else these are dropped"
    )
    impairment: Annotated[ImpairmentFields | None, BeforeValidator(_preset)] = Field(
        None, description="what is wrong with it on purpose; the name of a preset, or its parts"
    )
    labels: TextMap | None = Field(None, description="words of your own")


LinkField = Annotated[LinkFields | None, BeforeValidator(_link)]


class SegmentFields(FileModel):
    """A shared medium that many ports plug into, by links with its name as one end."""

    kind: Literal["switch", "external", "nat"] | None = Field(
        None,
        description="`switch`: a switch of the lab; `external`: the world outside, by an interface of the host; "
        "`nat`: a way out with DHCP, DNS and address translation",
    )
    mtu: Mtu | None = Field(None, description="bytes; 1500 when it is not given")
    qinq: bool | None = Field(
        None, description="of a switch: its VLANs are tags of a provider (802.1ad) around the tags of customers"
    )
    interface: Word | None = Field(
        None,
        description="of `external` (required): a network interface of the host, or an existing bridge",
        examples=["eth0"],
    )
    vlan: Vlan | None = Field(None, description="of `external`: this VLAN of the interface")
    move_addresses: bool | None = Field(
        None,
        description="of `external`: addresses and routes that the host has on the interface move to the segment for "
        "as long as it is there; without this such an interface is refused",
    )
    subnet: Word | None = Field(
        None, description="of `nat`: Wireloom chooses one when it is not given", examples=["10.99.0.0/24"]
    )
    dhcp: bool | None = Field(
        None, description="of `nat`: whether the upper half of the subnet is handed out; true by default"
    )
    host: Word | None = Field(None, description="name of the host that it is on; where its nodes are by default")
    labels: TextMap | None = Field(None, description="words of your own; `wireloom.` is reserved")
    position: PositionField | None = Field(None, description="where the studio draws it: `[x, y]`")
