"""The live page: it fills, it is this machine's own, and nobody else gets anything from it."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from qflsec.base import ConfigError, StoreError
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.pages import LivePages
from qflsec.report.serve import LiveSite


@dataclass
class Looked:
    """A site over a store that a test fills by hand."""

    site: LiveSite
    pages: LivePages
    store: Path
    asked: list[int] = field(default_factory=list)

    def get(
        self, path: str | None = None, *, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """An answer; the path as it is, with nothing resolved on the way."""
        parts = urlsplit(self.site.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        connection.putrequest(
            method, parts.path if path is None else path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in {"Host": parts.netloc, **(headers or {})}.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), text


@pytest.fixture
def looked(result: MatrixResult, tmp_path: Path) -> Iterator[Looked]:
    store = tmp_path / "store"
    store.write_text("0")
    asked: list[int] = []

    def made() -> MatrixResult:
        asked.append(1)
        return result

    pages = LivePages(store, made, pause_seconds=0.0, share=1.0)
    with LiveSite(pages) as site:
        yield Looked(site, pages, store, asked)


def test_the_page_is_served_with_a_policy_that_it_can_keep(looked: Looked) -> None:
    status, headers, text = looked.get()
    assert status == 200
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", headers["Content-Security-Policy"])
    assert nonce is not None
    begun = re.findall(r"<(?:script|style)\b[^>]*>", text)
    assert len(begun) >= 4
    assert all(f'nonce="{nonce[1]}"' in tag for tag in begun), "all of them, and nothing else"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "style=" not in text
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    again = looked.get()[1]["Content-Security-Policy"]
    assert nonce[1] not in again, "every answer has its own"


def test_what_a_user_names_gets_no_nonce(looked: Looked) -> None:
    assert "example &lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in looked.get()[2]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_hosts_and_other_sites_are_refused(looked: Looked, headers: dict[str, str]) -> None:
    status, answer, text = looked.get(headers=headers)
    assert status == 403
    assert "loss" not in text
    assert answer["Content-Security-Policy"].startswith("default-src 'none'")
    assert not looked.asked, "nothing was made for it"


def test_the_own_name_and_the_own_origin_are_not(looked: Looked) -> None:
    netloc = urlsplit(looked.site.url).netloc
    port = netloc.rpartition(":")[2]
    assert looked.get(headers={"Host": f"localhost:{port}"})[0] == 200
    assert looked.get(headers={"Origin": f"http://{netloc}", "Sec-Fetch-Site": "same-origin"})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_nothing_but_looking_is_answered(looked: Looked, method: str) -> None:
    assert looked.get(method=method)[0] == 405
    assert not looked.asked


def test_head_says_what_get_would(looked: Looked) -> None:
    status, headers, text = looked.get(method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) == len(looked.get()[2].encode())


def test_no_path_reaches_the_files(looked: Looked) -> None:
    token = urlsplit(looked.site.url).path
    (looked.store.parent / "secret").write_text("secret")
    for path in (
        "/",
        "/version",
        token.rstrip("/"),
        f"{token}../secret",
        f"{token}secret",
        f"{token}store",
        f"{token}%2e%2e/secret",
        f"{token}?x",
        f"{token}version/",
        "/../../../../etc/passwd",
        "//etc/passwd",
        f"http://127.0.0.1{token}",
    ):
        status, _, text = looked.get(path)
        assert status == 404, path
        assert "root:" not in text
    assert not looked.asked


def test_another_run_has_another_address(looked: Looked) -> None:
    with LiveSite(looked.pages) as other:
        mine, its = (urlsplit(site.url).path for site in (looked.site, other))
        assert mine != its
        assert len(mine) > 20
        assert urlsplit(other.url).hostname == "127.0.0.1"


def test_only_the_loopback_listens(looked: Looked) -> None:
    port = urlsplit(looked.site.url).port
    assert looked.site._server.server_address == ("127.0.0.1", port)
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in (str(one) for one in found if not str(one).startswith("127.")):
        with (
            pytest.raises(OSError, match="refused"),
            socket.create_connection((address, port or 0), timeout=2),
        ):
            pass


def test_a_port_that_is_taken_is_told(looked: Looked) -> None:
    port = urlsplit(looked.site.url).port or 0
    with pytest.raises(
        ConfigError, match=r"cannot be served on this port; got \d+: .*; name another with --port"
    ):
        LiveSite(looked.pages, port=port)


def test_a_page_is_made_only_where_the_store_changed(looked: Looked) -> None:
    first = looked.pages.state()
    assert first["ended"] is False
    for _ in range(3):
        looked.get()
    assert len(looked.asked) == 1
    assert f'data-version="{first["version"]}"' in looked.get()[2]
    looked.store.write_text("more")
    changed = looked.pages.state()
    assert changed["version"] != first["version"]
    assert f'data-version="{changed["version"]}"' in looked.get()[2]
    assert len(looked.asked) == 2


def test_pages_are_seldom_and_the_last_comes_at_once(result: MatrixResult, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text("")
    pages = LivePages(store, lambda: result, pause_seconds=60.0)
    first = pages.page()
    store.write_text("more")
    assert pages.state() == {"version": first.version, "ended": False}, "nobody is told to ask again yet"
    assert pages.page() is first
    pages.end()
    assert pages.state()["version"] != first.version
    assert pages.page() is not first
    assert pages.made == 2


def test_two_readers_get_the_same_page(looked: Looked) -> None:
    texts: list[str] = []
    readers = [threading.Thread(target=lambda: texts.append(looked.get()[2])) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(looked.asked) == 1
    bare = {re.sub(r'nonce="[^"]*"', "", text) for text in texts}
    assert (len(texts), len(bare)) == (2, 1)


def test_a_store_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    def missing() -> MatrixResult:
        raise StoreError("there is no such store", got="<b>")

    pages = LivePages(tmp_path / "none", missing)
    with LiveSite(pages) as site:
        status, _, text = Looked(site, pages, tmp_path).get()
    assert status == 200
    assert "there is no such store; got &lt;b&gt;" in text
    assert 'id="live"' in text, "and it goes on asking"


def test_a_browser_follows_the_run_as_its_reader_left_it(looked: Looked, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 900, "height": 500})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(looked.site.url)
    folds = page.locator("details:not([open])")
    name = folds.first.locator("summary").first.inner_text()
    folds.first.locator("summary").first.click()
    page.evaluate("scrollTo(0, 700)")
    before = page.locator("#live").get_attribute("data-version")
    looked.store.write_text("more rows")
    page.locator(f"#live:not([data-version='{before}'])").wait_for()
    page.wait_for_load_state("load")
    assert abs(page.evaluate("scrollY") - 700) < 5
    assert page.locator("details[open]", has_text=name).count() >= 1
    looked.pages.end()
    page.locator("#live", has_text="has ended").wait_for()
    assert not problems, problems
    assert page.locator("svg").count() > 0
