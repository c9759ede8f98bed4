"""Kinds of lines that people know, as impairments with the source of their numbers.

Forward is from the network to its subscriber (downstream), backward the other way: put the provider's end of a link
first, or turn the preset around. Where a source tells the round trip, each direction has half of it.

They are points of departure for a lab, not promises about a line: access networks differ by a factor of ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from wireloom.model.base import Value
from wireloom.model.impairment import Impairment, LinkImpairment

__all__ = ["PRESETS", "Preset"]


class Preset(Value):
    """A kind of line.

    :ivar forward: downstream; ``backward``: upstream. :ivar source: where the numbers are from.
    """

    name: str
    description: str
    forward: Impairment
    backward: Impairment
    source: str

    @property
    def impairment(self) -> LinkImpairment:
        """Both directions of a link whose first end is the network's."""
        return LinkImpairment(forward=self.forward, backward=self.backward)


_WEBPAGETEST: Final = "WebPageTest connectivity profiles"
_LOADERO: Final = "Loadero network conditions"


def _both(impairment: Impairment) -> dict[str, Impairment]:
    return {"forward": impairment, "backward": impairment}


_ALL: Final = (
    Preset(
        name="edge",
        description="mobile, 2G with EDGE: 240/200 kbit/s, 840 ms there and back",
        forward=Impairment(delay_ms=420, jitter_ms=100, loss=1, rate_kbit=240),
        backward=Impairment(delay_ms=420, jitter_ms=100, loss=1, rate_kbit=200),
        source=f"rates and delay: {_WEBPAGETEST}, Edge; jitter and loss: {_LOADERO}, Edge",
    ),
    Preset(
        name="3g",
        description="mobile, 3G: 1.6/0.77 Mbit/s, 300 ms there and back",
        forward=Impairment(delay_ms=150, jitter_ms=50, loss=0.5, rate_kbit=1600),
        backward=Impairment(delay_ms=150, jitter_ms=50, loss=0.5, rate_kbit=768),
        source=f"rates and delay: {_WEBPAGETEST}, 3G; jitter and loss: {_LOADERO}, 3G",
    ),
    Preset(
        name="lte",
        description="mobile, 4G: 12/12 Mbit/s, 70 ms there and back",
        forward=Impairment(delay_ms=35, jitter_ms=5, loss=0.2, rate_kbit=12_000),
        backward=Impairment(delay_ms=35, jitter_ms=15, loss=0.2, rate_kbit=12_000),
        source=f"rates and delay: {_WEBPAGETEST}, LTE; jitter and loss: {_LOADERO}, 4G",
    ),
    Preset(
        name="5g",
        description="mobile, 5G below 6 GHz: 166/21 Mbit/s, 30 ms there and back",
        forward=Impairment(delay_ms=15, jitter_ms=5, loss=0.1, rate_kbit=166_000),
        backward=Impairment(delay_ms=15, jitter_ms=8, loss=0.1, rate_kbit=21_000),
        source="rates: Ookla Speedtest, median of the world, third quarter of 2021; delay: Ookla Speedtest, the US "
        "carrier with the lowest median latency (31 ms); jitter and loss: our choice",
    ),
    Preset(
        name="dsl",
        description="ADSL: 1.5/0.38 Mbit/s, 50 ms there and back",
        forward=Impairment(delay_ms=25, rate_kbit=1500),
        backward=Impairment(delay_ms=25, rate_kbit=384),
        source=f"{_WEBPAGETEST}, DSL",
    ),
    Preset(
        name="vdsl",
        description="VDSL2 with vectoring: 50/10 Mbit/s, 20 ms there and back",
        forward=Impairment(delay_ms=10, jitter_ms=1, rate_kbit=50_000),
        backward=Impairment(delay_ms=10, jitter_ms=1, rate_kbit=10_000),
        source="rates: a common product of European carriers; delay: one interleaving delay of up to 8 ms in each "
        "direction (ITU-T G.993.2) and 2 ms of access network; jitter: our choice",
    ),
    Preset(
        name="cable",
        description="cable modem: 5/1 Mbit/s, 28 ms there and back",
        forward=Impairment(delay_ms=14, rate_kbit=5000),
        backward=Impairment(delay_ms=14, rate_kbit=1000),
        source=f"{_WEBPAGETEST}, Cable",
    ),
    Preset(
        name="fibre",
        description="fibre to the home: 20/5 Mbit/s, 4 ms there and back",
        forward=Impairment(delay_ms=2, rate_kbit=20_000),
        backward=Impairment(delay_ms=2, rate_kbit=5000),
        source=f"{_WEBPAGETEST}, FIOS",
    ),
    Preset(
        name="satellite-geo",
        description="geostationary satellite: 20/2.4 Mbit/s, 724 ms there and back",
        forward=Impairment(delay_ms=362, jitter_ms=10, loss=0.1, rate_kbit=19_730),
        backward=Impairment(delay_ms=362, jitter_ms=10, loss=0.1, rate_kbit=2430),
        source="rates and delay: Ookla Speedtest, HughesNet in the USA, second quarter of 2021; jitter and loss: our "
        "choice",
    ),
    Preset(
        name="satellite-leo",
        description="satellites in a low orbit: 105/15 Mbit/s, 45 ms there and back",
        forward=Impairment(delay_ms=22.5, jitter_ms=7, loss=0.3, rate_kbit=104_710),
        backward=Impairment(delay_ms=22.5, jitter_ms=7, loss=0.3, rate_kbit=14_840),
        source="rates and delay: Ookla Speedtest, Starlink in the USA, first quarter of 2025; jitter and loss: our "
        "choice, for the handover between satellites every 15 s",
    ),
    Preset(
        name="wifi",
        description="wireless LAN: 40/33 Mbit/s, 2 ms there and back",
        forward=Impairment(delay_ms=1, jitter_ms=1, rate_kbit=40_000),
        backward=Impairment(delay_ms=1, jitter_ms=1, rate_kbit=33_000),
        source="rates and delay: Apple Network Link Conditioner, Wi-Fi; jitter: our choice",
    ),
    Preset(
        name="wan",
        description="leased line across a continent: 100 Mbit/s, 60 ms there and back",
        **_both(Impairment(delay_ms=30, jitter_ms=1, rate_kbit=100_000)),
        source="delay: some 6,000 km of fibre at 5 microseconds a kilometre (ITU-T G.114); rate and jitter: our choice",
    ),
    Preset(
        name="lossy",
        description="a line that loses one frame in twenty, and delays none",
        **_both(Impairment(loss=5)),
        source="our choice: enough for protocols to notice",
    ),
    Preset(
        name="very-bad",
        description="1 Mbit/s, 1 s there and back, one frame in ten is lost",
        **_both(Impairment(delay_ms=500, loss=10, rate_kbit=1000)),
        source="Apple Network Link Conditioner, Very Bad Network",
    ),
)

#: By name.
PRESETS: Final[Mapping[str, Preset]] = {preset.name: preset for preset in _ALL}
