"""Presets of membership: what the page says of attacks in pairs, and of what a quantum model changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.lab import MatrixSpec, load_spec, run
from qflsec.lab.attack_pairs import difference


def only(preset: str, *labels: str) -> MatrixSpec:
    """The preset with these attacks alone."""
    document = load_spec(preset).model_dump(mode="json", exclude_none=True)
    document["attacks"] = [attack for attack in document["attacks"] if attack["label"] in labels]
    assert len(document["attacks"]) == len(labels)
    return MatrixSpec.model_validate(document)


@pytest.mark.slow
def test_lira_is_above_the_loss_threshold(tmp_path: Path) -> None:
    """Carlini et al., IEEE S&P 2022: here 0.10 [0.04, 0.17] of advantage over ten seeds of breast cancer."""
    lira, loss = "lira, breast-cancer", "loss-threshold, breast-cancer"
    cells = run(only("membership-attacks", lira, loss), tmp_path / "store.sqlite", jobs=2).cells
    found = difference(cells[lira, "none"], cells[loss, "none"])
    assert found is not None
    assert found.n == 10
    assert found.low > 0
