#!/usr/bin/env bash
# Library:  jax-privacy 2.0.0 (PyPI), Python 3.11
# Input:    50 audits of randomised response with epsilon 1 (delta 0), 1,000 canaries each in by a fair coin; the scores are
#           the answers, the threshold is fixed at 1
# Guess:    CanaryScoreAuditor.epsilon_one_run_fdp(0.05, 1e-5), "lower bound on epsilon for a single round of auditing",
#           exceeds 1 in at most 5 % of audits
# Seen:     It exceeds 1 in all, with a median of 1.47: its trade-off curve is a Gaussian mechanism's, which the public
#           docstring does not say. A larger delta than a mechanism has makes no valid bound wrong. epsilon_one_run on
#           the same answers: median 0.85.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    jax-privacy==2.0.0 jax==0.10.2 jaxlib==0.10.2 dp-accounting==0.6.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from jax_privacy.auditing import CanaryScoreAuditor, Explicit

rng = np.random.default_rng(0)
truth = np.e / (1 + np.e)
curve, plain = [], []
for _ in range(50):
    coins = rng.random(1000) < 0.5
    answers = np.where(rng.random(1000) < truth, coins, ~coins).astype(float)
    auditor = CanaryScoreAuditor(answers[coins], answers[~coins])
    curve.append(auditor.epsilon_one_run_fdp(0.05, 1e-5, threshold_strategy=Explicit(1.0)))
    plain.append(auditor.epsilon_one_run(0.05, 1e-5, threshold_strategy=Explicit(1.0)))
found = {
    "share above 1": float(np.mean(np.array(curve) > 1)),
    "median": float(np.median(curve)),
    "median of epsilon_one_run": float(np.median(plain)),
    "share of epsilon_one_run above 1": float(np.mean(np.array(plain) > 1)),
    "docstring names Gaussian": "aussian" in (CanaryScoreAuditor.epsilon_one_run_fdp.__doc__ or ""),
}
print("jax-privacy", version("jax-privacy"), found)
assert found["share above 1"] == 1, found
assert 1.4 < found["median"] < 1.65, found
assert found["median of epsilon_one_run"] < 1, found
assert found["share of epsilon_one_run above 1"] <= 0.1, found
assert not found["docstring names Gaussian"], found
PYTHON
