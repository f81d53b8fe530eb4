#!/usr/bin/env bash
# Library:  jax-privacy 2.0.0 (PyPI), Python 3.11
# Input:    400 pairs of 50 + 50 standard normal scores, in and out of the same distribution: nothing leaks
# Guess:    CanaryScoreAuditor.epsilon_from_gdp(0.05, 1e-5) bounds epsilon from below, so that at most 5 % exceed 0
# Seen:     98 % do; the median is above 8. Limits of the two error rates give mu >= z(1 - FPR) - z(FNR). Where both are
#           large that is negative and says nothing; the method takes its absolute value (comment: "the bound still holds in
#           reverse"). In reverse the rates are 1 - FPR and 1 - FNR, and upper limits of those follow from lower limits.
#           epsilon_clopper_pearson on the same scores exceeds 0 in none. The docstring says "estimate", and takes a
#           significance, "allowed probability of failure".
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
from jax_privacy.auditing import CanaryScoreAuditor

rng = np.random.default_rng(0)
gaussian, exact = [], []
for _ in range(400):
    auditor = CanaryScoreAuditor(rng.normal(size=50), rng.normal(size=50))
    gaussian.append(auditor.epsilon_from_gdp(0.05, 1e-5))
    exact.append(auditor.epsilon_clopper_pearson(0.05, 1e-5))
found = {
    "share above 0": np.mean(np.array(gaussian) > 0),
    "median": np.median(gaussian),
    "share above 0, Clopper-Pearson": np.mean(np.array(exact) > 0),
}
print("jax-privacy", version("jax-privacy"), {name: round(float(value), 3) for name, value in found.items()})
assert found["share above 0"] > 0.9, found
assert found["median"] > 8, found
assert found["share above 0, Clopper-Pearson"] == 0, found
PYTHON
