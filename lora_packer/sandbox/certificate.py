"""A certificate and its key for one start of the local S3, whose parts show it to each other.

It is made without a package and without a program: one key on P-256, signed by itself (RFC 5280, RFC 5915, FIPS 186-5).
Nothing but the loopback's own parts trusts it, and it goes with them.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

from lora_packer.redact import Secret

# P-256: SP 800-186, section 3.2.1.3.
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_Point = tuple[int, int] | None

_EC_KEY = bytes.fromhex("06072a8648ce3d0201")  # ecPublicKey, RFC 5480
_CURVE = bytes.fromhex("06082a8648ce3d030107")  # secp256r1, RFC 5480
_SIGNED_BY = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256, RFC 5758
_NAME = bytes.fromhex("06035504030c") + b"\x07sandbox"  # commonName
_LIFE = b"\x17\x0d200101000000Z\x17\x0d491231235959Z"
_ISSUES = bytes.fromhex("0603551d130101ff040530030101ff")  # basicConstraints: critical, an authority
_ADDRESS = bytes.fromhex("0603551d110408300687047f000001")  # subjectAltName: 127.0.0.1


def make_certificate() -> tuple[str, Secret]:
    """Return a certificate for 127.0.0.1 and its key, each in PEM."""
    key = 1 + secrets.randbelow(_N - 1)
    public = b"\x04" + b"".join(part.to_bytes(32, "big") for part in _times(key, _G) or ())
    name = _sequence(_der(0x31, _sequence(_NAME)))
    told = _sequence(
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(63)),
        *(_SIGNED_BY, name, _sequence(_LIFE), name),
        _sequence(_sequence(_EC_KEY, _CURVE), _bits(public)),
        _der(0xA3, _sequence(_sequence(_ISSUES), _sequence(_ADDRESS))),
    )
    certificate = _sequence(told, _SIGNED_BY, _bits(_sequence(*map(_integer, _signature(key, told)))))
    private = _sequence(_integer(1), _der(0x04, key.to_bytes(32, "big")), _der(0xA0, _CURVE), _der(0xA1, _bits(public)))
    return _pem("CERTIFICATE", certificate), Secret(_pem("EC PRIVATE KEY", private))


def _signature(key: int, message: bytes) -> tuple[int, int]:
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    once = 1 + secrets.randbelow(_N - 1)
    r = (_times(once, _G) or _G)[0] % _N
    return r, pow(once, -1, _N) * (digest + r * key) % _N


def _times(factor: int, point: _Point) -> _Point:
    total: _Point = None
    while factor:
        if factor & 1:
            total = _plus(total, point)
        point = _plus(point, point)
        factor >>= 1
    return total


def _plus(one: _Point, other: _Point) -> _Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    rise, run = (3 * x1 * x1 - 3, 2 * y1) if one == other else (y2 - y1, x2 - x1)
    slope = rise * pow(run, -1, _P) % _P
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    if 128 <= size < 256:
        length = bytes([0x81, size])
    return bytes([tag]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _der(0x03, b"\x00" + content)


def _pem(what: str, content: bytes) -> str:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {what}-----\n{text}-----END {what}-----\n"
