"""Train a federation with differential privacy at the server, and read the account of two observers.

Run it: python examples/train_and_account.py
"""

from __future__ import annotations

from qflsec import DataSpec, FederationConfig, Pipeline, RunSpec, Stack, build_model, run_batch
from qflsec.defenses.privacy import DpFedAvg
from qflsec.threat import honest_but_curious_server, public_final_model

pipeline = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, balanced=True, members=160, nonmembers=20, test=100),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 2}),
    federation=FederationConfig(n_clients=10, rounds=15, local_steps=2, learning_rate=0.5),
)
stacks = [
    Stack(name="none"),
    Stack.from_layers("dp-fedavg", [DpFedAvg(clip_norm=0.3, noise_multiplier=3.0)]),
]
for stack in stacks:
    run = run_batch(pipeline, stack, [RunSpec(seed=0)])[0]
    print(f"{stack.name}: accuracy {run.accuracy[-1]:.2f}")
    for observer in (honest_but_curious_server(), public_final_model()):
        print(run.account(observer))
