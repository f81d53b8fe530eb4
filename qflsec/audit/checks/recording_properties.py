"""What an observer of a recorded app learns of a client as a whole: which classes its records have, and how many of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from qflsec.attacks.property import LabelSkew
from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.checks.recording_leaks import graded
from qflsec.audit.flower.recording import Recording
from qflsec.audit.flower.subject import RecordedSubject, subject_of
from qflsec.audit.outcome import Finding
from qflsec.base import CheckCard, Source, register
from qflsec.models.losses import CrossEntropy

__all__ = ["RecordedLabels", "RecordedShares"]

_LEVEL = 0.05
_CLIENTS = 10
_FEWEST = 6
"""Clients: fewer have too few orders for one of them to be beyond chance."""


@register("check", "recorded-labels")
class RecordedLabels(Check):
    """Classes that are read off the signs of an update."""

    looks_at = Recording
    card = CheckCard(
        name="recorded-labels",
        idea="Take the classes whose last bias an update raises for the classes of the client's records.",
        source=Source(paper="Zhao et al., iDLG, arXiv:2001.02610", year=2020, where="equation 4"),
        title="the signs of an update show which classes a client has",
        severity="warning",
        proves="In every round, of every client that lacks a class, the biases that rose were those of classes that it has.",
        cannot=(
            "Where every client has records of every class there is nothing to read.",
            "How many records of a class there are is another check.",
        ),
        consequence="Whoever sees an update learns which classes, such as diagnoses, a client has none of; of one record, its label.",
        remedy="Aggregate securely, or use DP-SGD.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """How many readings are right, against chance."""
        subject = subject_of(part)
        last = _last_bias(subject)
        right, readings, chance = 0, 0, 1.0
        for updates in subject.updates:
            for node, update in updates.items():
                held = set(subject.clients[node].labels.tolist())
                absent = set(range(subject.model.n_classes)) - held
                if not held or not absent:
                    continue
                bias = subject.model.unflatten(update)[last]
                rose = {label for label in range(subject.model.n_classes) if float(bias[label]) > 0}
                readings += 1
                right += bool(rose) and not rose & absent
                chance *= 0.5 ** len(absent)
        if not readings:
            raise NotApplicable("every client has records of every class, so that signs tell nothing")
        bench.measured["updates whose signs were right"] = f"{right} of {readings}"
        if right == readings and chance < _LEVEL:
            yield Finding(
                what=f"in {readings} of {readings} updates of clients that lack a class, the biases that rose were those of "
                f"classes that they have",
                place=part.places.get("train"),
                evidence={"right": right, "readings": readings, "chance": chance},
            )


def _last_bias(subject: RecordedSubject) -> str:
    name, shape = subject.model.layout[-1]
    if not isinstance(subject.model.loss, CrossEntropy):
        raise NotApplicable("the rule is that of cross entropy")
    if not name.endswith("bias") or tuple(shape) != (subject.model.n_classes,):
        raise NotApplicable("the module ends in no layer with a bias for each class")
    return name


@register("check", "recorded-shares")
class RecordedShares(Check):
    """The share of a class at each client, by the probe of the catalogue."""

    looks_at = Recording
    weight = 6.0
    card = CheckCard(
        name="recorded-shares",
        idea="Run a round among ten clients, and read the share of class 1 off each update by regression on simulated ones.",
        source=Source(
            paper="Melis et al.: Exploiting unintended feature leakage in collaborative learning, arXiv:1805.04049",
            year=2019,
            where="section V",
        ),
        title="an observer reads off what share of a client's records is of a class",
        severity="warning",
        proves="Clients are ranked by their share beyond chance: rank correlation at the level of 5 %, shared among the views.",
        cannot=(
            "The adversary is given the records that are only evaluated, as records of its own.",
            "Clients whose shares hardly differ cannot be ranked, and a clean result then says nothing.",
            "Other properties than the share of a class are not probed.",
        ),
        consequence="A property of a whole client, such as how often a clinic sees a disease, leaves it with every update.",
        remedy="Aggregate securely; noise for single records does not hide what a whole client has.",
    )

    def run(self, part: Recording, bench: Bench) -> Iterator[Finding]:
        """The probe on each view."""
        subject = subject_of(part.among(_CLIENTS, 1))
        if subject.unmodelled:
            raise NotApplicable(subject.unmodelled)
        if len(set(subject.others.labels.tolist())) < 2:
            raise NotApplicable("the records that are only evaluated are not of several classes")
        subject = replace(subject, auxiliary=subject.others)
        scored, blocked = [], []
        for party in part.attacked:
            score = graded(LabelSkew(), subject, party, bench)
            if isinstance(score, str):
                bench.measured[f"label-skew by the {party}"] = score
                blocked.append(score)
            else:
                scored.append((party, *_ranked(score.raw["values"], score.raw["claimed"])))
        if not scored:
            raise NotApplicable(f"every attack is blocked: {'; '.join(dict.fromkeys(blocked))}")
        for party, correlation, p, n in scored:
            bench.measured[f"rank correlation by the {party}"] = correlation
            if p * len(scored) < _LEVEL:
                yield Finding(
                    what=f"label-skew on what the {party} sees ranks {n} clients by their share of class 1: correlation "
                    f"{correlation:.2f}, p = {p:.2g}",
                    place=part.places.get("train"),
                    evidence={"correlation": correlation, "p": p, "clients": n},
                )


def _ranked(values: object, claimed: object) -> tuple[float, float, int]:
    """Spearman's correlation of true and claimed shares, how often chance exceeds it, and the number of clients.

    Raises:
        NotApplicable: The shares are all one, or of too few clients.
    """
    from scipy import stats

    true, said = np.asarray(values, dtype=float), np.asarray(claimed, dtype=float)
    if len(true) < _FEWEST or np.ptp(true) == 0:
        raise NotApplicable(
            f"{len(true)} clients, whose shares differ by {np.ptp(true):.2g}, cannot be ranked"
        )
    found = stats.spearmanr(said, true, alternative="greater")
    correlation = float(found.statistic)
    return (0.0, 1.0, len(true)) if math.isnan(correlation) else (correlation, float(found.pvalue), len(true))
