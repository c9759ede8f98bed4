"""Startup configurations in NVRAM files: what was put in comes out, and damaged files are refused with a reason."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvram_images import compress, nvram

from wireloom.configs import MAX_CONFIG_BYTES, parse_iol_nvram
from wireloom.configs.lzw import decompress
from wireloom.errors import GuestFailed

CONFIG = b"!\nhostname r1\n!\ninterface Ethernet0/0\n ip address 10.0.0.1 255.255.255.0\n!\nend\n"
LIMIT = 1 << 22


def long_text(size: int) -> bytes:
    """Text that fills the dictionary: every code width is reached."""
    chance = random.Random(7)  # noqa: S311 - reproducible, not secret
    words = [bytes(chance.choices(b"abcdefghij 0123456789\n", k=chance.randint(2, 9))) for _ in range(4000)]
    return b"".join(chance.choices(words, k=size // 5))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("private", [b"", b"!\nkey\nend\n"])
def test_the_startup_configuration_comes_out_as_it_went_in(compressed: bool, private: bytes) -> None:
    assert parse_iol_nvram(nvram(CONFIG, compressed=compressed, private=private)) == CONFIG.decode()


def test_a_banners_delimiter_reads_as_ios_shows_it() -> None:
    assert parse_iol_nvram(nvram(b"banner motd \x03hello\x03\nend\n")) == "banner motd ^Chello^C\nend\n"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not-text"),
        (b"\x00" * 1024, "empty"),
        (b"\xff" * 1024, "empty"),
        (nvram(b""), "empty"),
        (nvram(CONFIG)[:60], "not-text"),
        (nvram(CONFIG)[:2] + b"\x00\x07" + nvram(CONFIG)[4:], "not-text"),
        (nvram(CONFIG)[:2] + b"\x00\x02" + nvram(CONFIG)[4:], "not-text"),
        (nvram(b"\xff\xfe\xfd"), "not-text"),
        (nvram(b"a" * (MAX_CONFIG_BYTES + 1), compressed=True), "not-text"),
    ],
)
def test_what_holds_no_configuration_is_refused(image: bytes, reason: str) -> None:
    with pytest.raises(GuestFailed) as raised:
        parse_iol_nvram(image)
    assert raised.value.details["reason"] == reason


@given(st.binary(max_size=3000), st.sampled_from([0, 5, 300, 700]), st.sampled_from([9, 10, 12, 16]))
def test_compression_round_trips(data: bytes, clear_every: int, widest: int) -> None:
    assert decompress(compress(data, widest=widest, clear_every=clear_every), limit=LIMIT) == data


def test_every_code_width_round_trips_and_gzip_reads_the_same() -> None:
    data = long_text(600_000)
    packed = compress(data)
    assert decompress(packed, limit=LIMIT) == data
    assert shutil.which("gzip")
    seen = subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.PIPE, check=True, timeout=20).stdout
    assert seen == data


def test_decompression_is_bounded() -> None:
    with pytest.raises(ValueError, match="larger than 1000"):
        decompress(compress(b"a" * 100_000), limit=1000)


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_text_or_a_refusal(noise: bytes) -> None:
    for image in (noise, nvram(CONFIG)[:4] + noise, nvram(noise, compressed=True)[:4] + b"\x00" * 12 + noise):
        with contextlib.suppress(GuestFailed):
            parse_iol_nvram(image)


@given(st.binary(max_size=400))
def test_any_codes_end_in_bytes_or_a_refusal(noise: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(decompress(b"\x1f\x9d\x90" + noise, limit=LIMIT)) <= LIMIT
