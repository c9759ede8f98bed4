"""Keys and claims as NATS writes them."""

from __future__ import annotations

import base64
import json
import stat
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.errors import InvalidInput, NotFound
from wireloom.fabric import nkeys
from wireloom.fabric.claims import (
    Limits,
    account_claims,
    operator_claims,
    permissions_of,
    read_claims,
    user_claims,
)
from wireloom.fabric.keys import FabricKeys
from wireloom.fabric.login import Login
from wireloom.fabric.logins import REVOKED_S, agent_claims, next_claims
from wireloom.fabric.nkeys import Kind
from wireloom.fabric.subjects import agent_permissions

OPERATOR, ACCOUNT, USER = (nkeys.encode_seed(kind, bytes([201 + number] * 32)) for number, kind in enumerate(Kind))
NOW = 1_800_000_000


def test_a_key_reads_as_nats_writes_it() -> None:
    # The seed and public key of the documentation of NATS.
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    assert nkeys.public_key(seed) == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


@pytest.mark.parametrize(("kind", "letter"), [(Kind.OPERATOR, "O"), (Kind.ACCOUNT, "A"), (Kind.USER, "U")])
def test_the_first_letters_say_whose_key_it_is(kind: Kind, letter: str) -> None:
    seed = nkeys.encode_seed(kind, bytes(32))
    assert seed.startswith(f"S{letter}")
    assert nkeys.public_key(seed).startswith(letter)
    assert nkeys.kind_of(nkeys.public_key(seed)) is kind


@given(secret=st.binary(min_size=32, max_size=32), data=st.binary())
def test_only_the_owner_of_a_seed_signs_for_its_key(secret: bytes, data: bytes) -> None:
    seed = nkeys.encode_seed(Kind.USER, secret)
    signature = nkeys.sign(seed, data)
    assert nkeys.verify(nkeys.public_key(seed), data, signature)
    assert not nkeys.verify(nkeys.public_key(seed), data + b"x", signature)
    assert secret == bytes([201] * 32) or not nkeys.verify(nkeys.public_key(OPERATOR), data, signature)


@given(position=st.integers(0, 55), letter=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_wrong_letter_is_noticed(position: int, letter: str) -> None:
    public = nkeys.public_key(USER)
    wrong = public[:position] + letter + public[position + 1 :]
    if wrong != public:
        with pytest.raises(InvalidInput):
            nkeys.kind_of(wrong)


@pytest.mark.parametrize("text", ["", "U", "hello", "ü" * 56, USER, USER.lower()])
def test_what_is_no_public_key_of_a_user_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        nkeys.check_public_key(text, Kind.USER)


def test_a_secret_of_another_length_and_a_public_key_are_no_seeds() -> None:
    with pytest.raises(InvalidInput):
        nkeys.encode_seed(Kind.USER, bytes(31))
    with pytest.raises(InvalidInput):
        nkeys.sign(nkeys.public_key(USER), b"")


def parts(text: str) -> tuple[dict[str, object], dict[str, object], bytes, bytes]:
    """Header, content, what is signed, signature."""
    header, content, signature = text.split(".")
    decoded = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (header, content, signature)]
    return json.loads(decoded[0]), json.loads(decoded[1]), f"{header}.{content}".encode(), decoded[2]


def test_claims_are_signed_by_who_makes_them_and_equal_ones_are_equal_texts() -> None:
    text = operator_claims(OPERATOR, name="o", system_account="A1", issued=NOW)
    header, content, signed, signature = parts(text)
    assert header == {"typ": "JWT", "alg": "ed25519-nkey"}
    assert content["nats"] == {"type": "operator", "system_account": "A1", "version": 2}
    assert nkeys.verify(nkeys.public_key(OPERATOR), signed, signature)
    assert text == operator_claims(OPERATOR, name="o", system_account="A1", issued=NOW)


def test_an_accounts_claims_hold_limits_and_revocations() -> None:
    account = nkeys.public_key(ACCOUNT)
    text = account_claims(OPERATOR, account, name="a", issued=NOW, limits=Limits(), revoked={"U2": 9, "U1": 5})
    content = read_claims(text)
    assert (content.subject, content.issued, dict(content.revoked)) == (account, NOW, {"U1": 5, "U2": 9})
    assert content.body["limits"]["disk_storage"] == -1
    system = account_claims(OPERATOR, account, name="s", issued=NOW, limits=Limits(0, 0), revoked={})
    assert "disk_storage" not in read_claims(system).body["limits"]


def test_an_agents_claims_say_what_it_may_and_have_no_beginning() -> None:
    keys = FabricKeys.new()
    text = agent_claims(keys, "h1", nkeys.public_key(USER), days=90, now=NOW)
    assert permissions_of(text) == agent_permissions("h1")
    _, content, _, _ = parts(text)
    assert content["exp"] == NOW + 90 * 86400
    assert "nbf" not in content  # a server whose clock is behind would refuse it
    assert content["nats"]["resp"] == {"max": 1, "ttl": 600_000_000_000}  # type: ignore[index]


def test_a_controllers_claims_permit_everything_and_do_not_end() -> None:
    login = FabricKeys.new().controller_login
    assert permissions_of(login.claims) is None
    assert (login.expires, login.user) == (0, "controller")


def test_claims_of_another_key_are_no_login() -> None:
    claims = user_claims(ACCOUNT, nkeys.public_key(USER), name="u", issued=NOW)
    assert Login.signed(claims, USER).public_key == nkeys.public_key(USER)
    with pytest.raises(InvalidInput):
        Login.signed(claims, nkeys.encode_seed(Kind.USER, bytes([9] * 32)))
    for text in ("", "a.b.c", "x", claims[:80]):
        with pytest.raises(InvalidInput):
            Login.signed(text, USER)


def test_secrets_do_not_show_in_a_repr() -> None:
    keys = FabricKeys.new()
    secrets = [value for name, value in asdict(keys).items() if name != "issued"]
    shown = repr(keys) + repr(keys.controller_login) + repr(Login(user="u", password="hidden"))  # noqa: S106
    assert not [secret for secret in (*secrets, "hidden") if secret in shown]


class TestRevocations:
    keys = FabricKeys.new()

    def told(self, *revoked: str, issued: int = NOW, until: int = NOW + REVOKED_S) -> str:
        return self.keys.account_claims(issued=issued, revoked=dict.fromkeys(revoked, until))

    def following(self, known: list[str], revoked: set[str], now: float = NOW) -> dict[str, int] | None:
        text = next_claims(self.keys, [read_claims(item) for item in known], revoked, now=now)
        return None if text is None else dict(read_claims(text).revoked)

    def test_servers_that_know_every_key_are_told_nothing(self) -> None:
        assert self.following([self.told("U1", "U2")], {"U1"}) is None
        assert self.following([self.told()], set()) is None

    def test_servers_that_know_nothing_of_the_account_are_told(self) -> None:
        assert self.following([], set()) == {}
        assert self.following([], {"U1"}) == {"U1": NOW + REVOKED_S}

    def test_one_server_of_several_that_lacks_a_key_is_enough(self) -> None:
        assert set(self.following([self.told("U1"), self.told()], {"U1"}) or ()) == {"U1"}

    def test_what_another_controller_revoked_stays(self) -> None:
        assert set(self.following([self.told("U1")], {"U2"}) or ()) == {"U1", "U2"}

    def test_a_revocation_that_no_login_outlives_is_forgotten(self) -> None:
        later = NOW + REVOKED_S + 10 * 86400
        assert set(self.following([self.told("U1")], {"U2"}, later) or ()) == {"U2"}

    def test_a_controller_whose_clock_is_behind_is_believed_too(self) -> None:
        """Servers keep the version that was issued last; theirs may be from a clock that is ahead."""
        text = next_claims(self.keys, [read_claims(self.told(issued=NOW + 900))], {"U1"}, now=NOW)
        assert text is not None
        assert read_claims(text).issued > NOW + 900

    def test_a_key_is_revoked_for_longer_than_any_login_is_good(self) -> None:
        assert REVOKED_S > 366 * 86400


class TestKeyFile:
    def test_it_is_made_once_for_the_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "fabric" / "keys.json"
        keys = FabricKeys.ensure(path)
        assert FabricKeys.ensure(path) == keys == FabricKeys.load(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]

    def test_a_copy_is_as_good(self, tmp_path: Path) -> None:
        FabricKeys.ensure(tmp_path / "a.json").save(tmp_path / "b.json")
        one, two = FabricKeys.load(tmp_path / "a.json"), FabricKeys.load(tmp_path / "b.json")
        assert one.operator_claims == two.operator_claims
        assert one.controller_login == two.controller_login

    @pytest.mark.parametrize("text", ["", "{}", '{"operator": "x"}', "[1]"])
    def test_a_damaged_one_is_never_written_over(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "keys.json"
        path.write_text(text)
        with pytest.raises(InvalidInput):
            FabricKeys.ensure(path)
        assert path.read_text() == text

    def test_a_missing_one_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="fabric config"):
            FabricKeys.load(tmp_path / "keys.json")
