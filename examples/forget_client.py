"""Forget a client, and ask the models whether they had seen its records.

Retraining without the client is what the quick way is held to; as many rounds from the beginning are its control.

Run it: python examples/forget_client.py
"""

from __future__ import annotations

import torch

from qflsec import DataSpec, FederationConfig, Pipeline, RunSpec, Stack, build_model, run_batch
from qflsec.accounting.roc import auc
from qflsec.defenses.backdoor import Erasure

SEEDS = range(6)
# two records for each client, and a circuit that fits them better than other records
pipeline = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, balanced=True, members=20, nonmembers=20, test=150),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 10, "encoder": "reuploading", "scale": 6.0}),
    federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
)
stacks = [
    Stack.from_layers("retrained", [Erasure(client=0, after=0)]),
    Stack(name="trained"),
    Stack.from_layers("erased", [Erasure(client=0, after=14, steps=5)]),
    Stack.from_layers("restarted", [Erasure(client=0, after=14, steps=5, calibrated=False)]),
]
logits = {}
for stack in stacks:
    runs = run_batch(pipeline, stack, [RunSpec(seed=seed, evaluate="last") for seed in SEEDS])
    scores: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        for member, records in ((True, run.client_records(0)), (False, run.records("nonmember"))):
            answers = pipeline.model(run.params, records.features)
            scores[member] += (-pipeline.model.loss.per_sample(answers, records.labels)).tolist()
    area = auc(scores[True], scores[False])
    logits[stack.name] = [pipeline.model(run.params, run.records("test").features) for run in runs]
    apart = [
        float((own.softmax(-1) - oracle.softmax(-1)).abs().sum(-1).mean() / 2)
        for own, oracle in zip(logits[stack.name], logits["retrained"], strict=True)
    ]
    accuracy = sum(run.accuracy[-1] for run in runs) / len(runs)
    print(
        f"{stack.name}: the client's records against others AUC {area.value:.2f} "
        f"[{area.low:.2f}, {area.high:.2f}], accuracy {accuracy:.2f}, "
        f"answers {torch.tensor(apart).mean():.2f} from the retrained model's"
    )
