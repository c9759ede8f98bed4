"""A certificate authority of our own: one certificate that hosts trust, and certificates of servers that it signs.

Files: ``ca.pem`` and ``ca.key`` (made once, twenty years), ``server.pem`` and ``server.key`` (a year, renewed in time).
Private keys have mode 0600. Certificates begin some days before they were made, because clocks differ.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wireloom.errors import InvalidInput

__all__ = ["Authority", "Certificate", "fingerprint"]

_AUTHORITY_DAYS: Final = 20 * 365
_SERVER_DAYS: Final = 365
#: A certificate with less than this left is made anew.
_RENEW_DAYS: Final = 120
_SLACK: Final = datetime.timedelta(days=2)
_NAME: Final = "Wireloom fabric"


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in ``pem``, in hexadecimal. :raises InvalidInput: there is none."""
    return _read_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True)
class Certificate:
    """Files of a server: its certificate with the authority's behind it, and its private key."""

    chain: Path
    key: Path


class Authority:
    """The authority in ``folder``, made on first use (blocking, some milliseconds).

    :raises InvalidInput: its files are there and cannot be read; they are never written over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._certificate_file.exists():
            self._make()
        self._certificate = _read_certificate(self._certificate_file.read_bytes())

    @property
    def certificate(self) -> str:
        """PEM that whoever connects has to trust."""
        return _pem(self._certificate).decode()

    def ensure_server(self, names: Collection[str], *, name: str = "server") -> Certificate:
        """A certificate for all of ``names`` (DNS names and addresses); made anew when it lacks one or ends soon."""
        files = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if not self._good(files, names):
            self._make_server(files, sorted(names))
        return files

    def _good(self, files: Certificate, names: Collection[str]) -> bool:
        if not (files.chain.exists() and files.key.exists()):
            return False
        try:
            certificate = _read_certificate(files.chain.read_bytes())
            certificate.verify_directly_issued_by(self._certificate)
            key = _read_key(files.key)
        except (InvalidInput, InvalidSignature, ValueError, TypeError):
            return False
        left = certificate.not_valid_after_utc - _now()
        belongs = _public(certificate.public_key()) == _public(key.public_key())
        return belongs and left.days > _RENEW_DAYS and set(names) <= names_of(certificate)

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
        draft = (
            _draft(name, name, key.public_key(), _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        # The key first: with the certificate there, the authority is made.
        _write(self._key_file, _private_pem(key), 0o600)
        _write(self._certificate_file, _pem(draft.sign(key, hashes.SHA256())), 0o644)

    def _make_server(self, files: Certificate, names: Collection[str]) -> None:
        signer = _read_key(self._key_file)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_NAME}: server")])
        certificate = (
            _draft(subject, self._certificate.subject, key.public_key(), _SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            # Servers of a cluster are each other's clients.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        _write(files.key, _private_pem(key), 0o600)
        _write(files.chain, _pem(certificate) + _pem(self._certificate), 0o644)

    @property
    def _certificate_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def _key_file(self) -> Path:
        return self.folder / "ca.key"


def names_of(certificate: x509.Certificate) -> set[str]:
    """The DNS names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _SLACK)
        .not_valid_after(_now() + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise InvalidInput("this is no certificate in PEM") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise InvalidInput(f"{path} holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput(f"{path} holds a private key of another kind")
    return key


def _public(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace ``path`` in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
