"""Certificates for tests: an authority, servers on loopback, people, and their RFC 3820 proxies.

Source: RFC 5280; RFC 3820, section 3: a proxy is issued by an end entity, its subject is the issuer's and one more
CN, and it has a critical `proxyCertInfo`.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

PROXY_CERT_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
"""`ProxyCertInfo` without a bound, policy language `id-ppl-inheritAll`, in DER."""
_LIFE = timedelta(hours=12)


@dataclass(frozen=True)
class Credential:
    """A certificate with its key, and those of who issued it, the nearest first."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def as_proxy_file(self) -> bytes:
        """All of it in the order of a file that `X509_USER_PROXY` names: certificate, key, chain."""
        return self.pem + self.key_pem + b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)


def authority(name: str = "test authority") -> Credential:
    """Make a self-signed authority."""
    subject, key = _name(name), ec.generate_private_key(ec.SECP256R1())
    usage = _usage(key_cert_sign=True)
    made = _builder(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    made = made.add_extension(usage, True).add_extension(_key_id(key), False)
    return Credential(made.sign(key, hashes.SHA256()), key)


def server(issuer: Credential, *hosts: str) -> Credential:
    """Make a server's certificate for names and addresses; for 127.0.0.1 without any."""
    hosts = hosts or ("127.0.0.1",)
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    return _issued(issuer, _name(hosts[0]), _usage(digital_signature=True), names)


def person(issuer: Credential, name: str) -> Credential:
    """Make a person's certificate: an end entity."""
    return _issued(issuer, _name(name), _usage(digital_signature=True))


def proxy(of: Credential) -> Credential:
    """Make an RFC 3820 proxy that may all that its issuer may."""
    serial = str(secrets.randbelow(1 << 31))
    subject = x509.Name([*of.certificate.subject, x509.NameAttribute(NameOID.COMMON_NAME, serial)])
    info = x509.UnrecognizedExtension(PROXY_CERT_INFO, INHERIT_ALL)
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(subject, of.certificate.subject, key).add_extension(info, True)
    made = made.add_extension(_usage(digital_signature=True), True)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(of.key.public_key()), False)
    return Credential(made.sign(of.key, hashes.SHA256()), key, (of.certificate, *of.chain))


def _issued(
    issuer: Credential, subject: x509.Name, usage: x509.KeyUsage, names: x509.SubjectAlternativeName | None = None
) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(subject, issuer.certificate.subject, key)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), True).add_extension(usage, True)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False)
    made = made.add_extension(_key_id(key), False)
    if names is not None:
        made = made.add_extension(names, False)
    return Credential(made.sign(issuer.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "grid"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_id(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
