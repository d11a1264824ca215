"""One policy: what is this machine's own, and what the service can reach."""

from __future__ import annotations

import pytest

from lora_packer.address import is_loopback, unreachable

MINE = ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
PUBLIC = [
    "bucket.s3.eu-central-1.amazonaws.com",
    "account.r2.cloudflarestorage.com",
    "s3.example.com.",
    "93.184.216.34",
    "[2606:2800:220:1:248:1893:25c8:1946]",
    "xn--bcher-kva.example.com",
]
PRIVATE = [
    "bucket.vpce-0123-abc.s3.us-east-1.vpce.amazonaws.com",
    "bucket.vpce-0123-abc.s3.cn-north-1.vpce.amazonaws.com.cn",
    "minio.corp.lan",
    "MINIO.CORP.LAN",
    "minio.corp.lan.",
    "minio",
    "nas.local",
    "minio.namespace.svc.cluster.local",
    "box.home.arpa",
    "host.docker.internal",
    "machine.localdomain",
    "s3.localhost",
    "s3.intranet",
    "s3.corp",
    "10.0.0.7",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",  # between carriers and their customers (RFC 6598)
    "192.0.2.1",  # for documentation (RFC 5737)
    "198.51.100.7",
    "203.0.113.9",
    "[2001:db8::1]",
    "0.0.0.0",
    "224.0.0.1",
    "[fe80::1]",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "127.1",  # odd spellings of addresses
    "2130706433",
    "0x7f.0.0.1",
    "a..b",
]


@pytest.mark.parametrize("host", MINE)
def test_this_machine_is_reached_by_a_service_on_it_alone(host: str) -> None:
    assert is_loopback(host.strip("[]"))
    for scheme in ("http", "https"):
        assert unreachable(f"{scheme}://{host}:9000/x") == "it is this machine's own"
        assert unreachable(f"{scheme}://{host}:9000/x", by_loopback_service=True) is None


@pytest.mark.parametrize("host", PUBLIC)
@pytest.mark.parametrize("by_loopback", [True, False])
def test_public_names_and_addresses_are_reached_by_https(host: str, by_loopback: bool) -> None:
    assert not is_loopback(host.strip("[]"))
    assert unreachable(f"https://{host}/bucket/a.zip?x=1", by_loopback_service=by_loopback) is None
    reason = unreachable(f"http://{host}/bucket/a.zip?x=1", by_loopback_service=by_loopback)
    assert reason == "it is not https, so that everything would travel in the clear"


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("by_loopback", [True, False])
def test_private_networks_are_out_of_reach(host: str, by_loopback: bool) -> None:
    assert not is_loopback(host.strip("[]"))
    assert unreachable(f"https://{host}:9000/x", by_loopback_service=by_loopback) == "it is in a private network"


@pytest.mark.parametrize("url", ["https://[::1", "https://[x]/", "nonsense", "", "https://"])
def test_what_is_no_url_is_not_reached(url: str) -> None:
    assert unreachable(url) is not None
