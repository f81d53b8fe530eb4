"""Reading results: from what a store keeps, from its rows, and without what the matrix was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError
from qflsec.lab import Store, build, load_spec, parse_spec, read_result, run, to_dict

SPEC = """
kind = "delegation"
name = "server"
plugins = ["mine.py"]
seeds = [0, 1]
shots = 40
tests = 40
[clients.open]
pads = "none"
[[attacks]]
name = "random-answers"
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that was filled by a matrix with a plugin, which is gone."""
    plugin = tmp_path / "mine.py"
    plugin.write_text("X = 1\n")
    run(parse_spec(SPEC, base=tmp_path), tmp_path / "s.sqlite", jobs=1, command="as typed")
    plugin.unlink()
    return tmp_path / "s.sqlite"


def told(path: Path) -> dict[str, Any]:
    return {**to_dict(read_result(path)), "created": ""}


def test_what_is_kept_is_what_the_rows_give(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = read_result(store)
    assert kept.command == "as typed"
    assert read_result(store).created == kept.created
    monkeypatch.setattr("qflsec.lab.reading.installation_digest", lambda: "another")
    assert told(store) == {**to_dict(kept), "created": ""}
    assert to_dict(replace(read_result(store), created="")) == to_dict(replace(kept, created=""))


def test_nothing_is_kept_beyond_the_next_row(store: Path) -> None:
    with Store(store) as opened:
        last = opened.last_matrix()
        assert last is not None
        row = next(row for row in opened.rows().values() if row.seed == 1)
        opened.append([replace(row, status="failed", reason="a bug", content={})])
        opened.keep_result(last["seq"], unit=opened.last_unit() - 1, digest="d", document="{}")
        assert opened.kept_result(last["seq"], digest="d") is None
        opened.keep_result(last["seq"], unit=opened.last_unit(), digest="d", document="{}")
        assert opened.kept_result(last["seq"], digest="d") == "{}"
        assert opened.kept_result(last["seq"], digest="of other code") is None
    assert len(read_result(store).failures) == 1


def test_a_matrix_that_is_asked_for_is_made_anew_and_needs_its_plugins(store: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.py"):
        build(parse_spec(SPEC, base=store.parent))
    wider = parse_spec(
        SPEC.replace('plugins = ["mine.py"]', "").replace("[0, 1]", "[0, 1, 2]"), base=store.parent
    )
    cells = read_result(store, wider).cells.values()
    assert {(cell.state, len(cell.statuses)) for cell in cells} == {("pending", 2)}


def test_a_preset_reads_as_it_was_written() -> None:
    """The frame of a federation matrix survives JSON: nothing in it is lost between a run and its reading."""
    import json

    world = build(load_spec("quickstart"))
    again = json.loads(json.dumps(world.frame))
    assert again == world.frame
    first, second = (replace(world.reading.assemble(frame, {}), created="") for frame in (world.frame, again))
    assert first == second
    assert {cell.state for cell in first.cells.values()} == {"pending"}
