"""What an observer of a recorded app learns of its records: attacks of the catalogue on its views, graded by the lab."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from qflsec.attacks import Blocked, Inference
from qflsec.attacks.inversion import DeepLeakage
from qflsec.attacks.membership import LossThreshold, UpdateAlignment
from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.flower.observers import observer
from qflsec.audit.flower.recording import Recording
from qflsec.audit.flower.subject import RecordedSubject, subject_of
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, QflsecError, Source, register
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import TrialScore, score_claim

__all__ = ["RecordedMembership", "RecordsFromUpdates", "graded"]

_LEVEL = 0.05
_MOST_RECORDS = 8
_FEW = 5


def graded(attack: Inference, subject: RecordedSubject, party: str, bench: Bench) -> TrialScore | str:
    """The score of an attack on a party's view, or why it is blocked.

    Args:
        attack: The attack.
        subject: What is attacked.
        party: Whose view, by the names of :data:`qflsec.audit.flower.observers.PARTIES`.
        bench: The audit's seed.
    """
    threat = observer(party)
    try:
        challenge, truth = challenge_for(attack, subject, seed=bench.seed, threat=threat)
        claim = attack(subject.view(threat), challenge)
    except QflsecError as error:
        return " ".join(str(error).split())
    if isinstance(claim, Blocked):
        return claim.reason
    return score_claim(claim, truth)


@register("check", "recorded-membership")
class RecordedMembership(Check):
    """Who was trained on, from what each observer sees."""

    looks_at = Recording
    weight = 4.0
    card = CheckCard(
        name="recorded-membership",
        idea="Tell training records from records that were only evaluated, by loss and by the direction of updates.",
        source=Source(paper="Yeom et al., CSF 2018, arXiv:1709.01604", year=2018, where="Adversary 2"),
        title="an observer tells who was trained on",
        severity="warning",
        proves="Training records score higher than others, more often than chance would make them in one of 20 such audits.",
        cannot=(
            "Evaluation records of another kind than the training records are told apart without any memory.",
            "Stronger attacks, with shadow models, are not made here.",
            "An app that was run for few rounds memorises less than the whole training does.",
        ),
        consequence="Whoever holds a record and this view learns whether it was in the training, such as whether somebody is a patient.",
        remedy="Train with DP-SGD, or release less: secure aggregation against the server, fewer rounds against everybody.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """Attacks on each view, with the level shared among them."""
        subject = subject_of(part)
        members, others = len(subject.records("member").labels), len(subject.records("nonmember").labels)
        if min(members, others) < _FEW:
            raise NotApplicable(
                f"{members} records were trained on and {others} only evaluated: too few to tell a leak from chance"
            )
        tried = [
            (party, attack) for party in part.attacked for attack in (LossThreshold(), UpdateAlignment())
        ]
        tried_on = [
            (party, attack.card.name, graded(attack, subject, party, bench)) for party, attack in tried
        ]
        scored = [(party, name, score) for party, name, score in tried_on if not isinstance(score, str)]
        bench.measured.update(
            {f"{name} by the {party}": score for party, name, score in tried_on if isinstance(score, str)}
        )
        if not scored:
            raise NotApplicable(f"every attack is blocked: {'; '.join({str(one[2]) for one in tried_on})}")
        for party, name, score in scored:
            found, p = score.metrics["advantage"], _p_value(score)
            bench.measured[f"advantage of {name} by the {party}"] = found.value
            if p * len(scored) < _LEVEL:
                yield Finding(
                    what=f"{name} on what the {party} sees: advantage {found.value:.2f}, 95 % interval {found.low:.2f} to "
                    f"{found.high:.2f} (0 is chance, 1 is certainty), {found.n} records",
                    place=part.places.get("train"),
                    evidence={
                        "advantage": found.value,
                        "low": found.low,
                        "high": found.high,
                        "n": found.n,
                        "p": p,
                    },
                )


def _p_value(score: TrialScore) -> float:
    """How often chance gives members such scores: the rank sum, where members and others are exchangeable."""
    from scipy import stats

    members, others = (
        np.asarray(score.raw[side], dtype=float) for side in ("member_scores", "nonmember_scores")
    )
    return float(stats.mannwhitneyu(members, others, alternative="greater").pvalue)


@register("check", "recorded-inversion")
class RecordsFromUpdates(Check):
    """Records rebuilt from an update."""

    looks_at = Recording
    weight = 8.0
    card = CheckCard(
        name="recorded-inversion",
        idea="Search the records whose update equals the one that an observer sees, as deep leakage does.",
        source=Source(paper="Zhu, Liu, Han, NeurIPS 2019, arXiv:1906.08935", year=2019, where="algorithm 1"),
        title="an observer rebuilds training records",
        severity="error",
        proves="The records that are counted were found to within a mean squared error of 1e-3 in every feature.",
        cannot=(
            f"Clients with more than {_MOST_RECORDS} records are not attacked.",
            "A search that fails is no guarantee: a longer one may not.",
        ),
        consequence="Whoever holds this view holds the records.",
        remedy="Aggregate securely, train with DP-SGD, or let no client train on so few records.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The attack on each view."""
        subject = subject_of(part)
        if subject.unmodelled:
            raise NotApplicable(subject.unmodelled)
        sizes = [len(held.labels) for held in subject.clients if len(held.labels)]
        if not sizes or sizes[0] > _MOST_RECORDS:
            raise NotApplicable(
                f"the first client trains on {sizes[0] if sizes else 0} records; the search is made for at most {_MOST_RECORDS}"
            )
        blocked = []
        for party in part.attacked:
            score = graded(DeepLeakage(restarts=6, screened=64, prior=False), subject, party, bench)
            if isinstance(score, str):
                blocked.append(score)
                bench.measured[f"dlg by the {party}"] = score
                continue
            rebuilt, error = int(float(score.raw["reconstructed"])), score.metrics["mse"]  # type: ignore[arg-type]
            if not math.isnan(score.advantage):
                bench.measured[f"advantage of dlg by the {party}"] = score.advantage
            if rebuilt:
                yield Finding(
                    what=f"dlg on what the {party} sees rebuilds {rebuilt} of {error.n} records of a client; mean squared error "
                    f"{error.value:.2g}, a guess has {error.baseline:.2g}",
                    place=part.places.get("train"),
                    evidence={
                        "rebuilt": rebuilt,
                        "records": error.n,
                        "mse": error.value,
                        "guess": error.baseline,
                    },
                )
        if len(blocked) == len(part.attacked):
            raise NotApplicable(f"every attack is blocked: {'; '.join(dict.fromkeys(blocked))}")
