"""An attack of your own in a matrix of your own, with a page.

Run it: python examples/own_attack.py; it writes own_attack.sqlite and own_attack.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qflsec import run_matrix, write_report
from qflsec.attacks import Manipulation
from qflsec.base import AttackCard, Source, register
from qflsec.lab import parse_spec

MATRIX = """
name = "own attack"
seeds = [0, 1, 2]
[pipelines.tumours]
data = { name = "breast-cancer", n_features = 4, members = 100, nonmembers = 0, auxiliary = 100, test = 200 }
model = { name = "vqc", n_qubits = 4, layers = 3 }
federation = { n_clients = 5, rounds = 15, local_steps = 2, learning_rate = 0.5 }
[stacks]
none = []
median = [{ name = "median" }]
[threats.one]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "freeze"
pipeline = "tumours"
threat = "one"
params = { strength = 6.0 }
"""


@register("attack", "freeze")
@dataclass(frozen=True, kw_only=True)
class Freeze(Manipulation):
    """Push the model back to where it was."""

    card = AttackCard(
        name="freeze",
        idea="Push the model back to where it was.",
        source=Source(paper="this example", year=2026, where="all of it"),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    strength: float = 3.0

    def run(self, hands):
        """The opposite of what honest training gives, many times over."""
        return -self.strength * hands.train(hands.features, hands.labels)


result = run_matrix(parse_spec(MATRIX, base=Path()), "own_attack.sqlite", jobs=1)
for cell in result.cells.values():
    print(f"{cell.attack} against {cell.column}: {cell.state}, advantage {cell.advantage.value:.2f}")
write_report(result, Path("own_attack.html"))
