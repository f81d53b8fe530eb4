"""The preset of sums: what company hides, and what a change of company gives away."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.lab import load_spec, run


@pytest.mark.slow
def test_the_preset_says_what_the_readme_says(tmp_path: Path) -> None:
    """A sum of all hides one client, masks do not once clients change, and groups must not be drawn anew."""
    result = run(load_spec("sums").with_seeds(seeds=(0,)), tmp_path / "store.sqlite", jobs=2)
    advantages = {key: cell.per_seed[0].advantage for key, cell in result.cells.items()}
    together, changing = "disaggregation, everybody takes part", "disaggregation, clients change"

    def advantage(attack: str, stack: str) -> float:
        found = advantages[attack, stack]
        assert found is not None, (attack, stack)
        return found

    # without a layer, every record is read
    assert advantage(together, "none") > 0.9
    assert advantage(changing, "none") > 0.9
    for stack in ("masked", "secagg", "groups+median"):
        assert advantage(together, stack) < 0.6, stack
    for stack in ("masked", "secagg"):
        assert advantage(changing, stack) > 0.8, stack
    assert advantage(together, "groups redrawn+median") > 0.8
