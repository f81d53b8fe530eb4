"""The preset of topologies: who rebuilds records, and who holds only sums."""

from __future__ import annotations

from pathlib import Path

from qflsec.lab import load_spec, run


def test_the_preset_says_what_the_readme_says(tmp_path: Path) -> None:
    """Single updates in a star, under an edge and on the wire of a ring give every record; sums of five do not."""
    result = run(load_spec("topologies").with_seeds(seeds=(0,)), tmp_path / "store.sqlite", jobs=1)
    states = {key: cell.per_seed[0] for key, cell in result.cells.items()}
    for label in ("star, by the server", "tree, by an edge server", "ring, by the network"):
        advantage = states[label, "none"].advantage
        assert advantage is not None
        assert advantage > 0.99, label
    above = states["tree, by the server", "none"].advantage
    assert above is not None
    assert above < 0.6
    assert states["ring, by a client", "none"].status == "blocked"
    for label in ("tree, by the server", "ring, by the network"):
        assert states[label, "masked"].status == "incompatible"
    assert states["star, by the server", "masked"].status == "ok"
