"""The pages of channel matrices and the figures of single runs."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from qflsec.base import ConfigError, SeededSecrets
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult
from qflsec.lab.worlds.pairs.cells import Trial
from qflsec.protocols.bb84 import FibreChannel
from qflsec.protocols.bb84.run import BB84Result, run_bb84
from qflsec.protocols.bb84.run_config import BB84Config
from qflsec.report import render_report, write_report
from qflsec.report.chain import chain_steps, write_chain_figure
from qflsec.report.states import CHANNEL_STATES


def outcome(**changed: object) -> ChannelOutcome:
    values = {
        "attack": "x",
        "countermeasures": (),
        "detected_by": (),
        "n_key": 1000,
        "qber": 0.01,
        "key_length": 500,
        "eve_information": 0.25,
        "secret_bits": 800.0,
        "seeded": True,
    }
    return ChannelOutcome(**{**values, **changed})  # type: ignore[arg-type]


@pytest.fixture
def result() -> ChannelMatrixResult:
    rows, columns = ("none", "evil <i>one</i>"), {"none": (), "all & more": ("isolator",)}
    outcomes = {
        ("none", "none"): (outcome(), outcome(eve_information=0.75)),
        ("none", "all & more"): (outcome(key_length=0, detected_by=("test-errors",)), outcome(key_length=0)),
        ("evil <i>one</i>", "none"): (outcome(secret_bits=0.0), outcome()),
        ("evil <i>one</i>", "all & more"): (),
    }
    return ChannelMatrixResult(
        name="example </style><script>alert(1)</script>",
        description="A description.",
        command="qflsec bb84 matrix",
        created="2026-01-01T00:00:00+00:00",
        versions={"qflsec": "0.1.0"},
        seeds=(0, 1),
        rows=rows,
        ideas=dict.fromkeys(rows, "An idea."),
        columns=columns,
        cells={
            key: ChannelCell(
                attack=key[0],
                column=key[1],
                n_seeds=2,
                trials=tuple(
                    Trial(
                        seed=seed,
                        status="ok" if found else "incompatible",
                        outcome=found[seed] if found else None,
                        reason="" if found else "it has no photons to split",
                    )
                    for seed in (0, 1)
                ),
            )
            for key, found in outcomes.items()
        },
        spec={"name": "example </script>"},
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_stands_alone(result: ChannelMatrixResult) -> None:
    page = render_report(result)
    tags = Tags()
    tags.feed(page)
    assert not {tag for tag, _ in tags.found} & {"link", "iframe", "img", "i"}
    assert not [tag for tag, attributes in tags.found if "src" in attributes]
    assert all(
        str(attributes.get("href", "#")).startswith(("#", "data:text/")) for _, attributes in tags.found
    )
    assert "<script>alert" not in page
    assert "//" not in page.replace("<!DOCTYPE html>", "").split("<style>")[0]
    assert "simulated" in page


def test_every_cell_says_what_is_claimed_and_what_is_noticed(result: ChannelMatrixResult) -> None:
    page = render_report(result)
    tags = Tags()
    tags.feed(page)
    cells = [attributes for tag, attributes in tags.found if tag == "td" and "data-state" in attributes]
    assert [attributes["data-state"] for attributes in cells] == [
        "key holds",
        "no key",
        "false key",
        "not applicable",
    ]
    assert all(attributes["title"] for attributes in cells)
    for words in ("not detected", "detected in 1 of 2", "it has no photons to split", "qflsec bb84 matrix"):
        assert words in page
    for sign, name, meaning in CHANNEL_STATES.values():
        assert f"{sign} {name}" in page
        assert meaning in page
    assert "0.500 [" in page, "a mean with its interval"


def test_it_is_written_or_said_why_not(result: ChannelMatrixResult, tmp_path: Path) -> None:
    path = write_report(result, tmp_path / "page.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(result, tmp_path)


# --- one run ---


@pytest.fixture(scope="module", params=[5.0, 60.0], ids=["key", "abort"])
def single(request: pytest.FixtureRequest) -> BB84Result:
    config = BB84Config(
        pulses=200_000,
        expected=FibreChannel(distance_km=5),
        line=FibreChannel(distance_km=request.param),
    )
    secrets = {f"{party}_secrets": SeededSecrets(0, party) for party in ("alice", "bob")}
    return run_bb84(config, seed=0, **secrets)


def test_the_steps_never_grow(single: BB84Result) -> None:
    values = [value for _, value in chain_steps(single)]
    assert values == sorted(values, reverse=True)
    assert values[0] == single.config.pulses
    assert values[-1] == single.key_length


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_a_run_is_drawn(suffix: str, single: BB84Result, tmp_path: Path) -> None:
    if suffix == ".png":
        pytest.importorskip("matplotlib")
    path = write_chain_figure(single, tmp_path / f"run{suffix}")
    content = path.read_bytes()
    assert content.lower().startswith(b"\x89png" if suffix == ".png" else b"<!doctype html>")
    if suffix == ".html":
        said = f"key of {single.key_length:,} bits" if single.key_length else f"no key: {single.abort_reason}"
        assert said in content.decode()
        assert "<script" not in content.decode()


def test_other_kinds_of_figures_are_refused(single: BB84Result, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown kind of figure"):
        write_chain_figure(single, tmp_path / "run.gif")
    with pytest.raises(ConfigError, match="folder of the figure"):
        write_chain_figure(single, tmp_path / "none" / "run.html")
