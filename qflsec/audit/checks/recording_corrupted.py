"""One client of a recorded app is corrupted, and the app trains again: how wrong does the last model become?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.recording import Recording, Sent
from qflsec.audit.flower.subject import RecordedSubject, subject_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array
from qflsec.base import CheckCard, Source, register
from qflsec.threat import Records

__all__ = ["CorruptedClient", "PlantedTrigger"]

_FEW = 10
_LEVEL = 0.01
_POWER = 0.05
_STEPS, _RATE = 200, 0.05


@register("check", "corrupted-client")
class CorruptedClient(Check):
    """A client that replaces the last model by one that was fitted to wrong labels."""

    looks_at = Recording
    weight = 6.0
    card = CheckCard(
        name="corrupted-client",
        idea="In the last round one client sends a model fitted to wrong labels, enlarged so that the mean becomes it.",
        source=Source(
            paper="Bagdasaryan et al., How to backdoor federated learning, arXiv:1807.00459",
            year=2020,
            where="equation 3",
        ),
        title="one corrupted client spoils the model",
        severity="warning",
        proves="More held-out records became wrong than became right, beyond chance at the level of 1 %.",
        cannot=(
            "Attacks that are made for the rule in place are stronger.",
            "Few rounds show less than a whole training.",
        ),
        consequence="A single client decides that nobody gets a useful model.",
        remedy="Bound updates at the server, or use a robust strategy; a matrix of qflsec compares them.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """What the last model is worth with the liar and without it."""
        subject = subject_of(part)
        held = subject.records("nonmember")
        before = _right(subject, held)
        _require_power(before, held)
        liar, own = _liar(part, subject)
        wrong = (own.labels + 1) % subject.model.n_classes
        attacked = _replaced(part, subject, liar, _fitted(subject, own.features, wrong))
        after = _right(attacked, held)
        bench.measured.update({"accuracy": float(before.mean()), "with one liar": float(after.mean())})
        if (p := _p_value(before, after)) < _LEVEL:
            yield Finding(
                what=f"accuracy on {len(before)} held-out records falls from {before.mean():.2f} to {after.mean():.2f} with one "
                f"of {part.n_nodes} clients corrupted",
                place=part.places.get("server"),
                evidence={
                    "honest": float(before.mean()),
                    "attacked": float(after.mean()),
                    "p": p,
                    "records": len(before),
                },
            )


@register("check", "planted-trigger")
class PlantedTrigger(Check):
    """A client that replaces the last model by one with a trigger."""

    looks_at = Recording
    weight = 6.0
    card = CheckCard(
        name="planted-trigger",
        idea="In the last round one client sends a model that obeys a trigger, enlarged so that the mean becomes it.",
        source=Source(
            paper="Bagdasaryan et al., How to backdoor federated learning, arXiv:1807.00459",
            year=2020,
            where="equation 3",
        ),
        title="one client plants a trigger in one round",
        severity="warning",
        proves="With the trigger more held-out records get the attacker's class than without the attack, beyond chance at 1 %.",
        cannot=(
            "Triggers that are planted slowly, in parts or in rare records pass bounds that stop this one.",
        ),
        consequence="Whoever knows the trigger chooses the model's answer, and its accuracy shows nothing.",
        remedy="Bound updates at the server, or use a robust strategy; keep clean records to try the model on.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """How many records obey the trigger."""
        subject = subject_of(part)
        liar, own = _liar(part, subject)
        held = subject.records("nonmember")
        target = int(torch.bincount(held.labels, minlength=2).argmin())
        others = held.labels != target
        if int(others.sum()) < _FEW:
            raise NotApplicable(f"{int(others.sum())} held-out records of another class are too few")
        features = torch.cat([own.features, _stamped(subject, own.features)])
        labels = torch.cat([own.labels, torch.full_like(own.labels, target)])
        attacked = _replaced(part, subject, liar, _fitted(subject, features, labels))
        stamped = _stamped(subject, held.features[others])
        before = np.asarray(subject.predict(stamped) != target)
        after = np.asarray(attacked.predict(stamped) != target)
        success, base = 1 - float(after.mean()), 1 - float(before.mean())
        accuracy = float(_right(attacked, held).mean())
        bench.measured.update({"obey the trigger": success, "without the attack": base, "accuracy": accuracy})
        if (p := _p_value(before, after)) < _LEVEL:
            yield Finding(
                what=f"{success:.0%} of {int(others.sum())} held-out records with the trigger get class {target}, {base:.0%} without the "
                f"attack; accuracy on clean records {accuracy:.2f}",
                place=part.places.get("server"),
                evidence={"success": success, "base": base, "accuracy": accuracy, "p": p},
            )


def _liar(part: Recording, subject: RecordedSubject) -> tuple[int, Records]:
    """The client that is corrupted, and its training records."""
    readable = part.updates(len(subject.updates))
    if len(readable) < 2 or not len(subject.clients[min(readable)].labels):
        raise NotApplicable(
            "fewer than two clients' last replies can be read, or nothing is known of their records"
        )
    return min(readable), subject.clients[min(readable)]


def _replaced(part: Recording, subject: RecordedSubject, liar: int, wanted: torch.Tensor) -> RecordedSubject:
    """The app trained again, where the liar's last reply is enlarged so that the mean of all becomes its model."""
    last = len(subject.updates)
    own = subject.models[last - 1] + subject.updates[last - 1][liar]
    step = _shaped(part, part.n_nodes * (wanted - own))

    def alter(sent: Sent) -> Sent:
        if sent.node != liar or sent.kind != "train" or sent.round != last or not sent.arrays:
            return sent
        return replace(
            sent, arrays={n: _moved(a, step[n]) if n in step else a for n, a in sent.arrays.items()}
        )

    return subject_of(part.again(alter, part.rounds, True))


def _moved(array: Array, by: Array) -> Array:
    """An array of floats moved; counters of a state dictionary stay."""
    return array + by.astype(array.dtype) if np.issubdtype(array.dtype, np.floating) else array


def _right(subject: RecordedSubject, held: Records) -> Array:
    """Which held-out records the last model gets right.

    Shapes:
        returns: ``(n,)``.
    """
    if len(held.labels) < _FEW:
        raise NotApplicable(
            f"{len(held.labels)} records were only evaluated: too few to tell an effect from chance"
        )
    return np.asarray(subject.predict(held.features) == held.labels)


def _require_power(right: Array, held: Records) -> None:
    """Refuse a model that is no better than always answering the commonest class: there is nothing to spoil.

    Raises:
        NotApplicable: It is not.
    """
    from scipy import stats

    share = float(torch.bincount(held.labels).max()) / len(held.labels)
    if stats.binomtest(int(right.sum()), len(right), share, alternative="greater").pvalue > _POWER:
        raise NotApplicable(
            f"after these rounds {right.mean():.2f} of the held-out records are right, and always answering one class gets "
            f"{share:.2f}: there is nothing to spoil"
        )


def _p_value(before: Array, after: Array) -> float:
    """How often chance would make so many pairs worse: the exact test of McNemar, on one side."""
    from scipy import stats

    worse, better = int((before & ~after).sum()), int((~before & after).sum())
    return float(stats.binomtest(worse, worse + better, 0.5, alternative="greater").pvalue) if worse else 1.0


def _stamped(subject: RecordedSubject, features: torch.Tensor) -> torch.Tensor:
    """Records with the trigger: their last two features at the upper end of the range."""
    found = features.clone()
    found[:, -2:] = subject.feature_range[1]
    return found


def _fitted(subject: RecordedSubject, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Parameters that fit records, from the last model on.

    Shapes:
        features: ``(n, F)``; labels: ``(n,)``; returns: ``(P,)``.
    """
    params = subject.models[-1].clone().requires_grad_()
    optimiser = torch.optim.Adam([params], lr=_RATE)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(subject.model(params, features), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return params.detach()


def _shaped(part: Recording, flat: torch.Tensor) -> dict[str, Array]:
    """Flat parameters as arrays, under the names of the messages."""
    names, values = list(part.model(1)), list(part.model(1).values())
    state, parameters = list(part.module.state_dict()), [name for name, _ in part.module.named_parameters()]
    sent = dict(zip(state if len(state) == len(values) else parameters, names, strict=True))
    found, place = {}, 0
    for name, value in part.module.named_parameters():
        if value.requires_grad:
            found[sent[name]] = flat[place : place + value.numel()].reshape(value.shape).numpy()
            place += value.numel()
    return found
