"""The matrix of channel attacks: specifications, cells, and what the preset shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError, QflsecError
from qflsec.lab import compare, from_json, load_spec, presets, to_dict, to_json
from qflsec.lab import run as run_spec
from qflsec.lab.scoring.channel_outcome import ChannelOutcome
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult, ChannelWorld
from qflsec.lab.worlds.channel.reading import ChannelReading
from qflsec.lab.worlds.pairs.cells import Trial

SMALL = """
kind = "channel"
name = "small"
description = "Two attacks, two columns."
seeds = [0, 1]
pulses = 400_000
[source]
kind = "weak-coherent"
intensities = [0.5]
probabilities = [1.0]
[channel]
distance_km = 10.0
[detector]
efficiency = 0.5
[countermeasures]
none = []
monitored = ["detector-monitor", "authentication"]
[[attacks]]
name = "intercept-resend"
label = "half"
params = { fraction = 0.5 }
[[attacks]]
name = "man-in-the-middle"
"""


def write(tmp_path: Path, text: str = SMALL) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def run(path: Path | str, store: Path, jobs: int = 1) -> ChannelMatrixResult:
    result = run_spec(load_spec(path), store, jobs=jobs, command="a command")
    assert isinstance(result, ChannelMatrixResult)
    return result


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ChannelMatrixResult:
    folder = tmp_path_factory.mktemp("small")
    return run(write(folder), folder / "s.sqlite")


def test_every_pair_and_seed_is_run_and_told(small: ChannelMatrixResult) -> None:
    result = small
    assert result.rows == ("honest", "half", "man-in-the-middle")
    assert list(result.cells) == [(row, column) for row in result.rows for column in ("none", "monitored")]
    assert all(len(cell.outcomes) == 2 for cell in result.cells.values())
    states = {key: (cell.state, cell.detected) for key, cell in result.cells.items()}
    assert states == {
        ("honest", "none"): ("key holds", 0),
        ("honest", "monitored"): ("key holds", 0),
        ("half", "none"): ("no key", 2),
        ("half", "monitored"): ("no key", 2),
        ("man-in-the-middle", "none"): ("false key", 0),
        ("man-in-the-middle", "monitored"): ("no key", 2),
    }
    document = json.loads(json.dumps(to_dict(result), allow_nan=False))
    assert (document["schema"], document["kind"]) == ("qflsec-bb84-matrix/2", "channel")
    assert document["seeded_secrets"] is True
    assert document["specification"]["pulses"] == 400_000
    assert [cell["state"] for cell in document["cells"]] == [state for state, _ in states.values()]
    assert document["cells"][0]["per_seed"][1]["seed"] == 1
    causes = [cell["aborts_by_cause"] for cell in document["cells"]]
    assert causes == [{"wire": 2} if state == "no key" else {} for state, _ in states.values()]
    assert {row["caused_by"] for row in result.cells["half", "none"].records()} == {"wire"}
    assert {row["caused_by"] for row in result.cells["honest", "none"].records()} == {""}


def test_the_document_comes_back_as_it_was(small: ChannelMatrixResult) -> None:
    again = from_json(to_json(small))
    assert again == small
    assert all(part.same for part in compare(small, again))


def outcome(**changed: Any) -> ChannelOutcome:
    values = {
        "attack": "x",
        "countermeasures": (),
        "detected_by": (),
        "n_key": 1000,
        "qber": 0.01,
        "key_length": 500,
        "eve_information": 0.1,
        "secret_bits": 800.0,
        "seeded": True,
    }
    return ChannelOutcome(**{**values, **changed})


def cell(*outcomes: ChannelOutcome, n_seeds: int | None = None) -> ChannelCell:
    trials = tuple(Trial(seed=seed, outcome=outcome) for seed, outcome in enumerate(outcomes))
    return ChannelCell(
        attack="x", column="c", n_seeds=len(outcomes) if n_seeds is None else n_seeds, trials=trials
    )


def test_what_is_missing_or_failed_is_told_before_what_was_found() -> None:
    partial = cell(outcome(), n_seeds=3)
    assert (partial.state, partial.statuses) == ("pending", {0: "ok"})
    assert partial.sentence == "x against c: 2 of 3 trials have not been run."
    bug = Trial[ChannelOutcome](seed=1, status="failed", reason="ZeroDivisionError: a bug")
    broken = ChannelCell(attack="x", column="c", n_seeds=2, trials=(*partial.trials, bug))
    assert (broken.state, broken.sentence) == ("failed", "x against c: ZeroDivisionError: a bug.")


def test_one_false_claim_makes_a_false_cell() -> None:
    mixed = cell(outcome(), outcome(secret_bits=10.0), outcome(key_length=0, detected_by=("test-errors",)))
    assert mixed.state == "false key"
    assert (mixed.false_claims, mixed.claimed, mixed.detected) == (1, 2, 1)
    assert "not in 1 of 3" in mixed.sentence
    assert "test-errors" in mixed.sentence


def test_that_no_key_is_left_is_no_detection() -> None:
    short = cell(outcome(key_length=0, detected_by=("no-key-left",)))
    assert (short.state, short.detected) == ("no key", 0)


def test_numbers_have_intervals_over_seeds_and_one_seed_has_none() -> None:
    several = cell(outcome(eve_information=0.1), outcome(eve_information=0.3)).eve_information
    assert several is not None
    assert several.value == pytest.approx(0.2)
    assert several.low < 0.1
    assert several.high > 0.3
    single = cell(outcome())
    assert math.isnan(single.eve_information.low)
    assert ChannelReading.summary(single)["eve_information_bits_per_raw_bit"]["low"] is None


def test_an_attack_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    text = SMALL.replace(
        'kind = "weak-coherent"\nintensities = [0.5]\nprobabilities = [1.0]', 'kind = "single-photon"'
    )
    text = text.replace('name = "man-in-the-middle"', 'name = "photon-number-splitting"')
    found = run(write(tmp_path, text), tmp_path / "s.sqlite").cells["photon-number-splitting", "none"]
    assert found.state == "not applicable"
    assert "several photons" in found.sentence
    assert ChannelReading.summary(found)["key_length_bits"] is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = [0, 1]", "seeds = [0, 0]", "listed twice"),
        ("pulses = 400_000", "pulse = 400_000", "did you mean 'pulses'"),
        ("pulses = 400_000", "pulses = 0", "impossible number of pulses"),
        ('kind = "weak-coherent"', 'kind = "candle"', "unknown source"),
        ("distance_km = 10.0", "distance_km = -1.0", "channel: impossible distance_km"),
        ("efficiency = 0.5", "eficiency = 0.5", "did you mean 'efficiency'"),
        ('"detector-monitor", ', '"tin-foil", ', "countermeasures.monitored: unknown countermeasure"),
        ('name = "intercept-resend"', 'name = "intercept"', "attacks[0]: unknown attack"),
        ('name = "intercept-resend"', 'name = "sign-flip"', "not an attack on the quantum channel"),
        ("fraction = 0.5", "fraction = 5.0", "impossible fraction"),
        ('label = "half"', 'label = "honest"', "a label is used twice"),
        ('name = "small"', 'name = "small', "not a TOML file"),
    ],
)
def test_mistakes_are_told_with_their_place(old: str, new: str, words: str, tmp_path: Path) -> None:
    assert old in SMALL
    with pytest.raises(QflsecError) as error:
        ChannelWorld.make(load_spec(write(tmp_path, SMALL.replace(old, new))))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bb84'"):
        load_spec("bb48")


def test_the_preset_can_be_read() -> None:
    assert "bb84" in presets()
    spec = load_spec("bb84", kind="channel")
    assert len(ChannelWorld.make(spec).attacks) == 8
    shifted = spec.with_seeds(seeds=(4, 5), offset=10)
    assert shifted.seeds == (14, 15)
    with pytest.raises(ConfigError, match="not a delegation matrix"):
        load_spec("bb84", kind="delegation")


ID_CHANGES = [
    ("pulses = 400_000", "pulses = 400_001"),
    ("distance_km = 10.0", "distance_km = 11.0"),
    ("efficiency = 0.5", "efficiency = 0.4"),
    ("intensities = [0.5]", "intensities = [0.6]"),
    ("fraction = 0.5", "fraction = 0.4"),
    ("[countermeasures]", "[rules]\nf_ec = 1.2\n[countermeasures]"),
    ('["detector-monitor", "authentication"]', '["detector-monitor"]'),
]


@pytest.mark.parametrize(("old", "new"), ID_CHANGES, ids=[new for _, new in ID_CHANGES])
def test_changing_any_parameter_changes_the_id_and_names_do_not(old: str, new: str, tmp_path: Path) -> None:
    def unit(text: str, label: str = "half", column: str = "monitored") -> str:
        return ChannelWorld.make(load_spec(write(tmp_path, text))).cells[label, column][0].unit_id

    assert old in SMALL
    assert unit(SMALL) != unit(SMALL.replace(old, new))
    renamed = (
        SMALL.replace('"half"', '"a half"').replace("monitored =", "watched =").replace("small", "other")
    )
    assert unit(SMALL) == unit(renamed, "a half", "watched")


CURES = {
    "photon-number-splitting": "decoy-states",
    "time-shift": "random-assignment",
    "detector-blinding": "detector-monitor",
    "trojan-horse": "isolator",
    "man-in-the-middle": "authentication",
}


@pytest.mark.slow
def test_the_preset_shows_each_attack_and_its_cure(tmp_path: Path) -> None:
    """Every attack but intercept-resend leaves a false key wherever its own countermeasure is missing."""
    result = run("bb84", tmp_path / "s.sqlite", jobs=2)
    for (row, column), found in result.cells.items():
        cured = row not in CURES or column in (CURES[row], "all")
        assert (found.state != "false key") == cured, (row, column, found.sentence)
        if row.startswith("intercept"):
            assert found.state == "no key"
            assert found.detected == 3
        if row == "honest":
            assert found.state == "key holds"
            assert found.detected == 0
