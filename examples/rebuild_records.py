"""A curious server rebuilds training records from updates; masks leave it only their sum.

Run it: python examples/rebuild_records.py
"""

from __future__ import annotations

from qflsec import DataSpec, FederationConfig, Pipeline, RunSpec, Stack, build_model, run_batch
from qflsec.attacks.inversion import DeepLeakage
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.protocols.secagg import Masked
from qflsec.threat import honest_but_curious_server

pipeline = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=10, nonmembers=10, auxiliary=60, test=20),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    federation=FederationConfig(n_clients=10, rounds=2, learning_rate=0.1),
)
attack, server = DeepLeakage(), honest_but_curious_server()
for stack in (Stack(name="none"), Stack(name="masked", client=(Masked(),))):
    run = run_batch(pipeline, stack, [RunSpec(seed=0)])[0]
    # the attack gets the view and the question; only the scorer gets the truth
    question, truth = challenge_for(attack, run, seed=0, threat=server)
    score = score_claim(attack(run.view(server), question), truth)
    print(f"{stack.name}: advantage {score.advantage:.2f} (1 is every record, 0 is a guess)")
