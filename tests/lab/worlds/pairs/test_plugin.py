"""A user's own attack in a matrix whose trials stand alone: its code is in the ids, and its bugs are rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.lab import Store, build, load_spec, run
from qflsec.lab.worlds.channel import ChannelMatrixResult

MINE = '''
from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from half import FRACTION
from qflsec.attacks.channel import InterceptResend
from qflsec.base import register


@register("attack", "mine")
@dataclass(frozen=True, kw_only=True)
class Mine(InterceptResend):
    """Intercepts what a helper says; a bug where a file is missing."""

    card = replace(InterceptResend.card, name="mine")
    switch: str = ""

    def open(self, config, *, seed):
        if self.switch and seed == 1 and not Path(self.switch).exists():
            raise ZeroDivisionError("a bug of the attack")
        return InterceptResend(fraction=FRACTION).open(config, seed=seed)
'''
TEXT = """
kind = "channel"
name = "mine"
seeds = [0, 1]
pulses = 60_000
plugins = ["mine.py"]
[channel]
distance_km = 5.0
[countermeasures]
none = []
[[attacks]]
name = "mine"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "half.py").write_text("FRACTION = 0.5\n")
    (tmp_path / "mine.toml").write_text(TEXT)
    return tmp_path


def made(folder: Path) -> ChannelMatrixResult:
    result = run(load_spec(folder / "mine.toml"), folder / "s.sqlite", jobs=1)
    assert isinstance(result, ChannelMatrixResult)
    return result


def test_a_changed_helper_is_another_trial_and_the_result_names_it(folder: Path) -> None:
    first = made(folder)
    assert [(part.part, part.files) for part in first.code] == [("attack mine", ("mine.py", "half"))]
    before = build(load_spec(folder / "mine.toml")).cells
    (folder / "half.py").write_text("FRACTION = 0.0\n")
    second, after = made(folder), build(load_spec(folder / "mine.toml")).cells
    assert first.cells["mine", "none"].measures != second.cells["mine", "none"].measures
    known = [[one.eve_information for one in made.cells["mine", "none"].outcomes] for made in (first, second)]
    assert min(known[0]) > 0.1
    assert max(known[1]) < 0.03, "who intercepts nothing knows nothing"
    assert before["mine", "none"][0].unit_id != after["mine", "none"][0].unit_id
    assert before["honest", "none"] == after["honest", "none"], "the honest line is that of before"


def test_a_bug_is_a_row_and_is_repeated_by_the_same_command(folder: Path) -> None:
    switch = folder / "mended"
    (folder / "mine.toml").write_text(f'{TEXT}params = {{ switch = "{switch}" }}\n')
    broken = made(folder)
    cell = broken.cells["mine", "none"]
    assert (cell.state, cell.statuses) == ("failed", {0: "ok", 1: "failed"})
    assert cell.sentence == "mine against none: ZeroDivisionError: a bug of the attack."
    assert "mine.py" in cell.trials[1].traceback
    (failure,) = broken.failures
    assert failure.startswith(
        "mine x none, seed 1: ZeroDivisionError: a bug of the attack\nTraceback (your code"
    )
    assert broken.cells["honest", "none"].statuses == {0: "ok", 1: "ok"}
    switch.touch()
    assert made(folder).cells["mine", "none"].statuses == {0: "ok", 1: "ok"}
    with Store(folder / "s.sqlite") as store:
        assert len(store.rows()) == 4
