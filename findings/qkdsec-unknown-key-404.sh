#!/usr/bin/env bash
# qkdsec 0.3.0: its conformance probe for an unknown key_ID expects HTTP 404 and warns at 400.
# ETSI GS QKD 014 V1.1.1 lists 200, 400, 401 and 503, and answers 400 "one or more keys specified are not found on
# KME". A KME that follows the standard is reported as deviating, and one that answers 404 as conformant.
# Seen: 400 -> warn, "KME returned HTTP 400 for an unknown key_ID; ETSI 014 expects 404."; 404 -> pass.
# Fails if that changes. Needs Python 3.11 or later and PyPI; runs without qflsec.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check qkdsec==0.3.0 requests==2.34.2
"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from qkdsec.client import ETSI014Client
from qkdsec.doctor.probes import probe_error_contract_404


def probed(status):
    class Kme(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"message": "one or more keys specified are not found on KME"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Kme) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found = probe_error_contract_404(ETSI014Client(f"http://127.0.0.1:{server.server_port}"), "bob")
    return found.status.value, found.summary


assert version("qkdsec") == "0.3.0"
standard, other = probed(400), probed(404)
print("qkdsec", version("qkdsec"))
print("HTTP 400:", *standard)
print("HTTP 404:", *other)
assert standard == ("warn", "KME returned HTTP 400 for an unknown key_ID; ETSI 014 expects 404."), standard
assert other[0] == "pass", other
PYTHON
