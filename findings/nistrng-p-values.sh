#!/usr/bin/env bash
# Library:  nistrng 1.2.3 (PyPI), Python 3.11: the tests of NIST SP 800-22 for bits such as keys
# Input:    sequences of 20,000 fair bits from NumPy's generator, as pack_sequence makes them (int8)
# Guess:    the p-value of each test is about uniform, as for monobit; tests of the same bits say the same each time
# Seen:     the walk of the cumulative sums is kept in the 8 bits of the input and wraps round at 127, with a warning of
#           NumPy: 20,000 fair bits go further in most sequences, and no p-value of 40 lies below .7; as int64 the same
#           bits give uniform values. The test of non-overlapping templates divides by the variance squared: nearly every
#           p-value is 1.000; its template is drawn from Python's global generator, so that a second run tests something else.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nistrng==1.2.3 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import random
from importlib.metadata import version

import numpy as np
from nistrng import SP800_22R1A_BATTERY, pack_sequence
from scipy.stats import kstest

random.seed(0)
generator = np.random.default_rng(1)
sequences = [pack_sequence(generator.integers(0, 256, 2500)) for _ in range(40)]
assert {(bits.dtype.name, bits.size) for bits in sequences} == {("int8", 20000)}


def p_values(name, kind):
    test = SP800_22R1A_BATTERY[name]
    return np.array([np.ravel(test.run(bits.astype(kind))[0].score)[0] for bits in sequences])


seen = {
    f"{name}, {kind}": p_values(name, kind)
    for name, kind in [
        ("monobit", "int8"),
        ("cumulative sums", "int8"),
        ("cumulative sums", "int64"),
        ("non_overlapping_template_matching", "int8"),
    ]
}
uniform = {name: float(kstest(values, "uniform").pvalue) for name, values in seen.items()}
print("nistrng", version("nistrng"), {n: (round(float(v.min()), 3), round(float(v.mean()), 3)) for n, v in seen.items()})
print("p-value of uniform p-values:", uniform)
far = np.mean([np.abs(np.cumsum(2 * bits.astype(int) - 1)).max() > 127 for bits in sequences])
assert uniform["monobit, int8"] > 1e-3 < uniform["cumulative sums, int64"], uniform
assert far > 0.4 and uniform["cumulative sums, int8"] < 1e-6 and seen["cumulative sums, int8"].min() > 0.5, far
templates = seen["non_overlapping_template_matching, int8"]
assert templates.min() > 0.99 and uniform["non_overlapping_template_matching, int8"] < 1e-20, templates
PYTHON
