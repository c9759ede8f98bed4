"""Impairments as messages to the kernel and back; those of netem as iproute2 writes them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from queues_kernel import KernelWithQueues, told_back

from wireloom.dataplane.host import qdiscs, traffic
from wireloom.dataplane.host.attributes import attr, fields, walk
from wireloom.dataplane.host.counters import Counters, parse_counters
from wireloom.dataplane.host.impairment import Impairments, Means
from wireloom.dataplane.host.netlink import Netlink
from wireloom.dataplane.host.protocol import NLM_F_CREATE, NLM_F_REPLACE, Request
from wireloom.dataplane.simulated.plane import SimulatedDataPlane, SimulatedNetwork
from wireloom.errors import DataPlaneFailed, Unsupported
from wireloom.model.attachment import TapAttachment
from wireloom.model.impairment import PARTS, Impairment, LinkImpairment
from wireloom.model.network import DataPlaneAbilities, ImpairmentPlan, PortAlias, PortCounters, PortPlan
from wireloom.model.presets import PRESETS

NETEM_MISSING = "this host's kernel lacks the module sch_netem"
#: tc qdisc replace … netem delay 50ms 5ms loss 1% duplicate 2% corrupt 3% reorder 25% gap 1 rate 10mbit limit 500
FROM_IPROUTE2 = bytes.fromhex(
    "48000200c2eb0b00f4010000295c8f020100000052b81e052d310100"
    "0c000300000000400000000" + "00c0004007b14ae0700000000"
    "14000600d0121300000000000000000000000000"
)
#: tc qdisc replace … tbf rate 40gbit burst 100000 limit 500000, its first attributes
TBF_FROM_IPROUTE2 = bytes.fromhex(
    "2800010003010000ffff0000ffffffff00000000000000000000000020a107006701000000000000"
    "08000600a0860100" + "0c00040000f2052a01000000"
)


def impairments() -> st.SearchStrategy[Impairment]:
    """Of all parts, each there or not."""
    percent = st.one_of(st.just(0.0), st.floats(0, 100))
    plain = st.builds(
        Impairment,
        loss=percent,
        duplicate=percent,
        corrupt=percent,
        rate_kbit=st.one_of(st.just(0), st.integers(0, 400_000_000)),
    )
    delayed = st.builds(
        Impairment,
        delay_ms=st.floats(0.001, 600_000),
        jitter_ms=st.one_of(st.just(0.0), st.floats(0, 2147)),
        loss=percent,
        reorder=percent,
        rate_kbit=st.one_of(st.just(0), st.integers(0, 400_000_000)),
        limit=st.integers(0, 10_000_000),
    )
    return st.one_of(plain, delayed).filter(lambda wanted: bool(wanted.parts))


def read(requests: list[Request], mtu: int = 1500) -> Impairment | None:
    told = [qdiscs.parse_qdisc(told_back(request.body)) for request in requests]
    return qdiscs.read_impairment([qdisc for qdisc in told if qdisc is not None], mtu)


# --- coding ------------------------------------------------------------------------------------


def test_netem_is_written_as_iproute2_does() -> None:
    wanted = Impairment(
        delay_ms=50, jitter_ms=5, loss=1, duplicate=2, corrupt=3, reorder=25, rate_kbit=10_000, limit=500
    )
    (request,) = qdiscs.with_netem(1, "d", wanted)
    assert request.flags == NLM_F_CREATE | NLM_F_REPLACE
    options = fields(request.body, 20)[2]
    theirs = FROM_IPROUTE2[4:]
    assert options[:24] == theirs[:24]
    found = fields(options, 24)
    # The overhead of a cell means nothing without cells: there we note that somebody asked for the limit.
    found[6] = found[6][:12] + bytes(4)
    assert dict(walk(theirs, 24)).items() <= found.items()


def test_tbf_is_written_as_iproute2_does() -> None:
    (request,) = qdiscs.with_tbf(1, "d", Impairment(rate_kbit=40_000_000), 1500)
    ours, theirs = fields(fields(request.body, 20)[2]), fields(TBF_FROM_IPROUTE2)
    assert ours[4] == theirs[4], "the rate, where 32 bits do not do"
    # The low bits of the first byte size a table that a kernel needs only where it is not told the link's layer.
    assert (ours[1][1:4], ours[1][8:24]) == (theirs[1][1:4], theirs[1][8:24])
    assert len(ours[6]) == len(theirs[6])


def test_times_are_told_in_nanoseconds() -> None:
    (request,) = qdiscs.with_netem(1, "d", Impairment(delay_ms=600_000, jitter_ms=0.001))
    options = fields(request.body, 20)[2]
    latency, *_, jitter = struct.unpack_from("=IIIIII", options)
    assert (latency, jitter) == (0xFFFFFFFF, 15), "the older fields hold what fits"
    found = fields(options, 24)
    assert struct.unpack("=qq", found[10] + found[11]) == (600_000_000_000, 1000)


@given(impairments())
def test_what_netem_is_told_is_read_back(wanted: Impairment) -> None:
    assert read(qdiscs.with_netem(1, "d", wanted)) == wanted


@given(st.integers(1, 400_000_000), st.integers(0, 10_000_000), st.integers(68, 65535))
def test_what_tbf_is_told_is_read_back(rate: int, limit: int, mtu: int) -> None:
    wanted = Impairment(rate_kbit=rate, limit=limit)
    assert read(qdiscs.with_tbf(1, "d", wanted, mtu), mtu) == wanted


@given(impairments())
def test_all_of_netem_is_said_each_time_so_that_nothing_of_before_stays(wanted: Impairment) -> None:
    options = fields(qdiscs.with_netem(1, "d", wanted)[0].body, 20)[2]
    assert {1, 3, 4, 6, 10, 11} <= fields(options, 24).keys()


@given(impairments())
def test_frames_stay_in_order_unless_they_are_to_be_reordered(wanted: Impairment) -> None:
    options = fields(qdiscs.with_netem(1, "d", wanted)[0].body, 20)[2]
    found = fields(options, 24)
    (rate,) = struct.unpack_from("=I", found[6])
    assert rate or not wanted.jitter_ms, "without a rate netem sorts frames by their random delays"
    _, _, _, gap, _, _ = struct.unpack_from("=IIIIII", options)
    assert gap == (1 if wanted.reorder else 0)


@pytest.mark.parametrize(
    ("wanted", "fewest"),
    [
        (Impairment(delay_ms=100), 10_000),  # 100,000 frames a second
        (Impairment(loss=1), 1000),
        (Impairment(delay_ms=600_000), 100_000),
        (Impairment(delay_ms=600, rate_kbit=1000), 175),  # on their way for 600 ms and 100 ms of waiting
        (Impairment(rate_kbit=64), 20),
    ],
)
def test_there_is_room_for_frames_that_are_on_their_way(wanted: Impairment, fewest: int) -> None:
    options = fields(qdiscs.with_netem(1, "d", wanted)[0].body, 20)[2]
    assert struct.unpack_from("=IIIIII", options)[1] == fewest


def test_a_rate_too_narrow_for_a_devices_frames_is_not_what_was_asked_for() -> None:
    requests = qdiscs.with_tbf(1, "d", Impairment(rate_kbit=1000), 1500)
    assert read(requests, 1500) == Impairment(rate_kbit=1000)
    assert read(requests, 9000) == qdiscs.UNREADABLE


def test_a_limit_without_its_queue_of_frames_is_not_what_was_asked_for() -> None:
    outer, _ = qdiscs.with_tbf(1, "d", Impairment(rate_kbit=1000, limit=5), 1500)
    assert read([outer]) == qdiscs.UNREADABLE


def test_queues_of_others_are_not_seen() -> None:
    body = struct.pack("=BxxxiIII", 0, 1, 0x10000, 0xFFFFFFFF, 2) + attr(1, b"netem\0") + attr(2, bytes(24))
    assert qdiscs.parse_qdisc(body) is None
    assert qdiscs.read_impairment([], 1500) is None


@pytest.mark.parametrize("kind", [b"netem\0", b"tbf\0", b"htb\0"])
def test_a_queue_of_ours_that_somebody_changed_is_not_what_was_asked_for(kind: bytes) -> None:
    handle = 0x57B0 << 16
    for options in (b"", bytes(23), struct.pack("=IIIIII", 0, 1000, 0, 0, 0, 15)):
        body = struct.pack("=BxxxiIII", 0, 1, handle, 0xFFFFFFFF, 2) + attr(1, kind) + attr(2, options)
        qdisc = qdiscs.parse_qdisc(body)
        assert qdisc is not None
        assert qdiscs.read_impairment([qdisc], 1500) == qdiscs.UNREADABLE


def test_a_detour_matches_everything_and_says_where_it_leads() -> None:
    body = traffic.detour(14, 16, "wlp1").body
    _, index, handle, parent, info = struct.unpack_from("=BxxxiIII", body)
    assert (index, handle, parent, info >> 16) == (14, 1, 0xFFFF0000, 50), "before the filter of a wire"
    assert fields(fields(body, 20)[2])[5] == struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)
    assert traffic.parse_detour(body) == 16
    assert traffic.parse_redirect(body) is None


# --- setting -----------------------------------------------------------------------------------


def rig(kernel: KernelWithQueues, means: Means | None = None) -> tuple[Impairments, DataPlaneAbilities]:
    impairments = Impairments(Netlink(kernel), "i1", lambda: means or Means())
    return impairments, impairments.add_to(DataPlaneAbilities())


def plan(device: str, wanted: Impairment | None, from_guest: Impairment | None = None) -> ImpairmentPlan:
    return ImpairmentPlan(device=device, to_guest=wanted, from_guest=from_guest)


def kinds(kernel: KernelWithQueues) -> list[str]:
    return [fields(body, 20)[1].rstrip(b"\0").decode() for body in kernel.queues.values()]


def test_a_rate_alone_is_made_by_tbf_and_with_other_parts_by_netem() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)})
    impairments, abilities = rig(kernel)
    for wanted, expected in (
        (Impairment(rate_kbit=100), ["tbf"]),
        (Impairment(rate_kbit=100, limit=3), ["tbf", "pfifo"]),
        (Impairment(rate_kbit=100, loss=1), ["netem"]),
        (Impairment(delay_ms=1), ["netem"]),
        (None, []),
    ):
        impairments.set([plan("d", wanted)], abilities)
        assert kinds(kernel) == expected


def test_any_impairment_can_follow_any_other() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)})
    impairments, abilities = rig(kernel)
    every = [
        Impairment(duplicate=5),
        Impairment(rate_kbit=5),
        Impairment(rate_kbit=5, limit=5),
        Impairment(delay_ms=5, duplicate=5, limit=5),
        Impairment(loss=5),
        None,
    ]
    for first in every:
        for second in every:
            impairments.set([plan("d", first)], abilities)
            impairments.set([plan("d", second)], abilities)


def test_a_rate_is_made_by_netem_where_there_is_no_tbf() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)}, lacks=frozenset({"tbf"}))
    impairments, abilities = rig(kernel, Means(tbf="this host's kernel lacks the module sch_tbf"))
    assert abilities.impairments == {}
    impairments.set([plan("d", Impairment(rate_kbit=100, limit=3))], abilities)
    assert kinds(kernel) == ["netem"]


def test_what_a_kernel_lacks_is_refused_by_name_and_the_rest_is_done() -> None:
    kernel = KernelWithQueues({"a": (7, 1500), "b": (8, 1500)})
    impairments, abilities = rig(kernel, Means(netem=NETEM_MISSING))
    assert set(abilities.impairments) == {"delay", "jitter", "loss", "duplicate", "corrupt", "reorder"}
    with pytest.raises(Unsupported, match=r"loss .* lacks the module sch_netem") as refusal:
        impairments.set([plan("a", Impairment(loss=1, rate_kbit=5)), plan("b", Impairment(rate_kbit=5))], abilities)
    assert refusal.value.details["failures"] == [{"device": "a", "parts": ["loss"]}]
    assert [index for index, _ in kernel.queues] == [8]


def test_nothing_works_without_queues_at_all() -> None:
    _, abilities = rig(KernelWithQueues(), Means(netem=NETEM_MISSING, tbf="no sch_tbf", detour="no ifb"))
    assert set(abilities.impairments) == set(PARTS)
    assert abilities.impairments["rate"] == "no sch_tbf"
    assert abilities.impair_from_guest == "no ifb"


def test_a_joiner_that_cannot_hold_up_what_guests_send_has_the_first_word() -> None:
    impairments, _ = rig(KernelWithQueues({"d": (7, 1500)}))
    abilities = impairments.add_to(DataPlaneAbilities(name="ovs", impair_from_guest="it reads frames before tc does"))
    with pytest.raises(Unsupported, match="reads frames before"):
        impairments.set([plan("d", None, Impairment(rate_kbit=5))], abilities)


def test_what_is_right_already_is_left_alone() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)})
    impairments, abilities = rig(kernel)
    for wanted in (Impairment(delay_ms=5, limit=9), Impairment(rate_kbit=5), None):
        impairments.set([plan("d", wanted)], abilities)
        asked = list(kernel.asked)
        impairments.set([plan("d", wanted), plan("gone", wanted)], abilities)
        assert kernel.asked == asked


def test_a_queue_that_cannot_be_read_is_cleared_too() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)})
    impairments, abilities = rig(kernel)
    impairments.set([plan("d", Impairment(rate_kbit=5))], abilities)
    kernel.devices["d"] = (7, 9000)
    impairments.set([plan("d", None)], abilities)
    assert kernel.queues == {}


def test_an_impairment_of_nothing_is_none() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)})
    impairments, abilities = rig(kernel)
    impairments.set([plan("d", Impairment(), Impairment())], abilities)
    assert kernel.asked == []


def test_a_kernel_that_says_yes_and_does_nothing_is_found_out() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)}, forgets=True)
    impairments, abilities = rig(kernel)
    with pytest.raises(DataPlaneFailed, match="does something else") as failure:
        impairments.set([plan("d", Impairment(delay_ms=5))], abilities)
    assert failure.value.details["device"] == "d"


def test_what_the_kernel_refuses_is_told_with_its_device() -> None:
    kernel = KernelWithQueues({"d": (7, 1500)}, lacks=frozenset({"netem"}))
    impairments, abilities = rig(kernel)
    with pytest.raises(DataPlaneFailed, match="ENOENT") as failure:
        impairments.set([plan("d", Impairment(delay_ms=5))], abilities)
    assert failure.value.details["device"] == "d"


# --- model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        {"jitter_ms": 1},
        {"reorder": 1},
        {"limit": 5},
        {"delay_ms": -1},
        {"loss": 100.1},
        {"delay_ms": 1, "jitter_ms": 2148},
    ],
)
def test_impossible_impairments_are_refused(parts: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Impairment.model_validate(parts)


@given(impairments())
def test_values_are_as_fine_as_kernels_keep_them(wanted: Impairment) -> None:
    assert Impairment.model_validate(wanted.model_dump()) == wanted
    assert Impairment.model_validate_json(wanted.model_dump_json()) == wanted


def test_presets_have_both_directions_and_a_source() -> None:
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.forward.parts
        assert preset.backward.parts
        assert preset.source
        assert preset.impairment == LinkImpairment(forward=preset.forward, backward=preset.backward)


# --- counters ----------------------------------------------------------------------------------


def test_a_guest_received_what_its_device_sent() -> None:
    numbers = struct.pack("=8Q", 1, 2, 10, 20, 0, 0, 3, 4) + bytes(17 * 8)
    assert parse_counters(struct.pack("=BxxxII", 0, 9, 1) + attr(1, numbers)) == (
        9,
        PortCounters(rx_packets=2, rx_bytes=20, rx_dropped=4, tx_packets=1, tx_bytes=10, tx_dropped=3),
    )
    assert parse_counters(struct.pack("=BxxxII", 0, 9, 1)) is None


def test_counters_of_a_host_without_devices() -> None:
    assert Counters(Netlink(KernelWithQueues()), "i1").read() == {}


# --- simulated ---------------------------------------------------------------------------------


async def test_a_simulated_host_refuses_what_it_says_it_cannot() -> None:
    network = SimulatedNetwork(abilities=DataPlaneAbilities(impairments={"loss": NETEM_MISSING}))
    plane = SimulatedDataPlane("i1", network)
    await plane.ensure_ports([simulated_port("a"), simulated_port("b")])
    with pytest.raises(Unsupported, match="sch_netem"):
        await plane.impair([plan("a", Impairment(loss=1)), plan("b", Impairment(rate_kbit=1), Impairment())])
    ports = (await plane.observe()).ports
    assert ports["a"].to_guest is None
    assert (ports["b"].to_guest, ports["b"].from_guest) == (Impairment(rate_kbit=1), None)


def simulated_port(device: str) -> PortPlan:
    alias = PortAlias(installation="i1", lab_id="l", node_id=device, index=1, name=device)
    return PortPlan(device=device, alias=alias, attachment=TapAttachment(), guest_name="eth1", mac="02:00:00:00:00:01")
