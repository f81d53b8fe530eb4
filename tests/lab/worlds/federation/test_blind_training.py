"""The quantum server's attacks on training runs: a tiny matrix like the preset ``blind``."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.base import ConfigError, QflsecError
from qflsec.lab import MatrixResult, load_spec, parse_spec, run
from qflsec.lab.worlds.federation.matrix import build_matrix

TINY = """
name = "tiny-blind"
seeds = [0, 1]
reference = "delegated"
secrets = "seeded"
[pipelines.training]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 6, nonmembers = 0, auxiliary = 20, test = 40 }
model = { name = "vqc", n_qubits = 2, layers = 2, ansatz = "ry-cz" }
federation = { n_clients = 2, rounds = 2, learning_rate = 0.5 }
[stacks]
delegated = [{ name = "delegated", shots = 10 }]
"blind, tests" = [{ name = "blind", shots = 10, tests = 40 }]
none = []
[threats.looking]
kind = "honest-but-curious-quantum-server"
[threats.lying]
kind = "malicious-quantum-server"
[[attacks]]
name = "read-delta"
pipeline = "training"
threat = "looking"
[[attacks]]
name = "flip-outcomes"
pipeline = "training"
threat = "lying"
"""


def made(text: str, place: Path) -> MatrixResult:
    return run(parse_spec(text, base=place.parent), place, jobs=1)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> MatrixResult:
    return made(TINY, tmp_path_factory.mktemp("blind") / "tiny.sqlite")


def test_records_are_read_off_open_delegations_and_not_off_blind_ones(result: MatrixResult) -> None:
    open_, blind = (result.cells["read-delta", stack] for stack in ("delegated", "blind, tests"))
    assert open_.advantage is not None
    assert open_.advantage.value == pytest.approx(1, abs=1e-6)
    assert blind.advantage is not None
    assert -0.5 < blind.advantage.value <= 1e-9, "what was not read is guessed as the baseline guesses it"
    assert blind.state == "ok"
    assert "without defense it has 1.00" in blind.sentence
    assert all(row.metrics["success_rate"].value == 1 for row in open_.per_seed)
    assert all(row.metrics["success_rate"].value == 0 for row in blind.per_seed)


def test_a_feature_that_the_result_does_not_depend_on_is_not_delegated_and_not_read(tmp_path: Path) -> None:
    """One layer, one observable: the second feature is outside its light cone."""
    text = TINY.replace("layers = 2", "layers = 1").replace("seeds = [0, 1]", "seeds = [0]")
    (row,) = made(text, tmp_path / "one.sqlite").cells["read-delta", "delegated"].per_seed
    originals, found = row.raw["originals"], row.raw["reconstructions"]
    assert [a[0] for a in originals] == pytest.approx([b[0] for b in found], abs=1e-5)
    assert len({b[1] for b in found}) == 1


def test_a_flipping_server_is_scored_as_poisoning_or_stopped(result: MatrixResult) -> None:
    stopped = result.cells["flip-outcomes", "blind, tests"]
    assert stopped.state == "aborted"
    assert "failed the tests" in stopped.sentence
    done = [row for row in result.cells["flip-outcomes", "delegated"].per_seed if row.status == "ok"]
    assert done
    for row in done:  # the flipped sign of every gradient and value turns the classifier round
        assert row.metrics["accuracy"].value < row.metrics["honest_accuracy"].value


def test_where_nothing_is_delegated_the_attack_is_blocked_or_impossible(result: MatrixResult) -> None:
    assert result.cells["read-delta", "none"].state == "incompatible"
    assert result.cells["flip-outcomes", "none"].state == "incompatible"


def test_the_worst_attack_and_the_costs_are_told(result: MatrixResult) -> None:
    assert result.summaries["delegated"].by_pipeline["training"].worst
    assert result.summaries["blind, tests"].by_pipeline["training"].costs["sent_qubits"].value > 0


def test_attacks_inside_one_protocol_are_sent_to_their_matrix() -> None:
    for name in ("guess-rounds", "weak-coherent"):
        with pytest.raises(ConfigError, match="qflsec blind matrix"):
            build_matrix(parse_spec(TINY.replace('name = "read-delta"', f'name = "{name}"'), base=Path()))


def test_mistakes_are_told() -> None:
    with pytest.raises(QflsecError, match=r"reference: no table \[stacks.delegate\]"):
        parse_spec(TINY.replace('reference = "delegated"', 'reference = "delegate"'), base=Path())
    with pytest.raises(ConfigError, match="leaves honest"):
        build_matrix(
            parse_spec(
                TINY.replace('name = "flip-outcomes"', 'name = "flip-outcomes"\nlabel = "x"')
                .replace('threat = "lying"', 'threat = "looking"')
                .replace('"honest-but-curious-quantum-server"', '"malicious-server"'),
                base=Path(),
            )
        )


def test_the_preset_can_be_built() -> None:
    matrix = build_matrix(load_spec("blind"))
    assert list(matrix.stacks) == ["delegated", "blind", "blind, tests", "brickwork, tests"]
    assert all(not matrix.incompatible("training", stack) for stack in matrix.stacks)
    assert next(entry.label for entry in matrix.attacks) == "read-delta"


@pytest.mark.slow
def test_the_preset_shows_power_and_its_end(tmp_path: Path) -> None:
    """Every attack has power on open delegation; tests stop the active ones, blindness the reader."""
    found = run(load_spec("blind"), tmp_path / "blind.sqlite", jobs=2)
    for (attack, stack), cell in found.cells.items():
        if stack == "delegated":
            assert cell.state == "ok", cell.sentence
        elif attack == "read-delta":
            assert cell.advantage is not None
            assert cell.advantage.value <= 0.01
        else:
            assert cell.state == ("ok" if stack == "blind" else "aborted"), cell.sentence
