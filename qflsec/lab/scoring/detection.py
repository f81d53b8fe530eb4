"""How well a screen of records finds those that carry a trigger."""

from __future__ import annotations

from copy import deepcopy

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import BackdoorManipulation
from qflsec.base import ConfigError, Score, stream
from qflsec.defenses.backdoor import suspects
from qflsec.federation import RunResult
from qflsec.lab.scoring.trial import point

__all__ = ["screened"]


def screened(attack: BackdoorManipulation, run: RunResult, *, share: float) -> dict[str, Score]:
    """What :func:`qflsec.defenses.backdoor.suspects` finds among a run's test records, of which some carry the trigger.

    Args:
        attack: The attack, for its trigger.
        run: The attacked run.
        share: How many of the test records get the trigger, as a share of all; 0 for a clean batch.

    Returns:
        ``recall``, ``false_alarms`` and ``f1``; the baseline of the last is that of suspecting every record. Of a clean batch
        ``false_alarms`` alone.

    Raises:
        ConfigError: There are not so many records to turn, or every client has a model of its own.
    """
    test, seed = run.records("test"), run.spec.seed
    n, victims = len(test.labels), torch.nonzero(deepcopy(attack).victims(test)).flatten()
    count = round(share * n)
    if not 0 <= count <= len(victims) or len(run.models) != 1:
        raise ConfigError(
            "there is no such batch to screen",
            got=f"a share of {share}: {count} records with a trigger of {len(victims)}, {len(run.models)} models",
        )
    generator = stream(seed, "score", attack.card.name, "screen")
    chosen = victims[torch.randperm(len(victims), generator=generator)[:count]]
    features, carries = test.features.clone(), torch.zeros(n, dtype=torch.bool)
    features[chosen], carries[chosen] = deepcopy(attack).trigger(test.features[chosen], generator), True
    flagged = suspects(run.pipeline.model, run.models[0], features)
    alarms = int((flagged & ~carries).sum())
    found = {
        "false_alarms": clopper_pearson(alarms, n - count).score(name="false_alarms", baseline=0.0, ideal=0.0)
    }
    if not count:
        return found
    hits = int((flagged & carries).sum())
    return {
        **found,
        "recall": clopper_pearson(hits, count).score(name="recall", baseline=0.0, ideal=1.0),
        "f1": point("f1", 2 * hits / (hits + alarms + count), n=n, baseline=2 * count / (n + count)),
    }
