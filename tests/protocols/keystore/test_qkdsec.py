"""qkdsec 0.3.0: its conformance probes and its client against our entity, over mutual TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qflsec.protocols.keystore import QkdKey

qkdsec_client = pytest.importorskip("qkdsec.client")
doctor = pytest.importorskip("qkdsec.doctor")
Maker = Callable[..., list[QkdKey]]
ALICE, BOB = "client-0", "server"


def theirs(site: Any, side: str, name: str) -> Any:
    tls, port = site.tls[name], {"A": site.a, "B": site.b}[side].port
    return qkdsec_client.ETSI014Client(
        f"https://127.0.0.1:{port}",
        client_cert=(str(tls.certificate), str(tls.key)),
        verify=str(tls.authority),
    )


def test_its_client(site: Any, make_keys: Maker) -> None:
    keys = make_keys(6)
    site.fill(keys)
    with theirs(site, "A", ALICE) as alice, theirs(site, "B", BOB) as bob:
        assert alice.status(BOB).stored_key_count == 6
        drawn = [
            *alice.get_enc_keys(BOB, number=2),
            *alice.get_enc_keys(BOB, method="POST"),
            *alice.get_enc_keys(BOB, extension_optional=[{"a": 1}]),
        ]
        assert [key.key for key in drawn] == [key.material for key in keys[:4]]
        # its parameter is called slave_sae_id, and stands where the standard has the master's
        fetched = bob.get_dec_keys(ALICE, key_ids=[key.key_id for key in drawn])
        assert fetched == drawn
        for refused in (
            lambda: bob.get_dec_keys(ALICE, key_ids=[drawn[0].key_id]),
            lambda: alice.get_enc_keys(BOB, size=264),
            lambda: alice.get_enc_keys(BOB, additional_slave_sae_ids=["client-1"]),
            lambda: alice.get_enc_keys(BOB, extension_mandatory=[{"a": 1}]),
        ):
            with pytest.raises(qkdsec_client.KMEHTTPError, match="HTTP 400"):
                refused()
        with pytest.raises(qkdsec_client.KMEHTTPError, match="HTTP 503"):
            alice.get_enc_keys(BOB, number=3)


def test_its_probes(site: Any, make_keys: Maker) -> None:
    """All but two pass. Of these one looks for 404, which the standard does not know, and one asks the master's own
    entity for a key with itself as the slave, which no entity that tells its applications apart may deliver.
    """
    site.fill(make_keys(10))
    with theirs(site, "A", ALICE) as alice:
        report = doctor.run_all(alice, BOB, latency_samples=1)
    verdicts = {result.name: result.status.value for result in report.results}
    assert verdicts == {
        "reachability": "pass",
        "status_fields": "pass",
        "enc_keys_get": "pass",
        "enc_keys_post": "pass",
        "enc_keys_caps": "pass",
        "extensions_accepted": "pass",
        "dec_keys_roundtrip": "fail",
        "error_contract_404": "warn",
        "error_contract_400": "pass",
        "latency": "pass",
    }
    by_name = {result.name: result for result in report.results}
    assert by_name["error_contract_404"].details == {"http_status": 400}
    assert (
        "HTTP 400: one or more keys specified are not found on KME" in by_name["dec_keys_roundtrip"].summary
    )
