#!/usr/bin/env bash
# skip-qkd 1.0.0: a client serves one request; its quick start makes two on one client.
# The README's example asks for the capabilities and then for a key. The client closes its socket after each request and
# keeps the closed one, so that the second request fails whatever the provider answers. Use a new client for each request.
# Seen: first request -> the provider's JSON; second -> OSError, "Bad file descriptor".
# Fails if that changes. Needs Python 3.11 or later, openssl and PyPI; runs without qflsec.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check skip-qkd==1.0.0 sslpsk3==2.1.0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem 2>/dev/null
venv/bin/python - <<'PYTHON'
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from skip_qkd import MTLSConfig, SkipQKDClient


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"entropy": False, "key": True, "keyId": "00" * 16}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
context.load_verify_locations("cert.pem")
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()

assert version("skip-qkd") == "1.0.0"
print("skip-qkd", version("skip-qkd"))
client = SkipQKDClient(
    server_address=f"localhost:{server.server_port}",
    server_id="my_system",
    mtls_config=MTLSConfig(ca_file="cert.pem", cert_file="cert.pem", key_file="key.pem"),
)
first = client.capabilities()
print("first request:", first)
assert first["key"] is True
try:
    second = client.request_key(peer_server_id="peer_system")
except OSError as error:
    print("second request:", type(error).__name__, error)
    assert "Bad file descriptor" in str(error), error
else:
    raise AssertionError(f"the second request was answered: {second}")
PYTHON
