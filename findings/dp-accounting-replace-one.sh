#!/usr/bin/env bash
# Library:  dp-accounting 0.6.0 (PyPI), Python 3.11
# Input:    one GaussianDpEvent with noise multiplier 1, NeighboringRelation.REPLACE_ONE, delta 1e-5
# Guess:    the PLD and the RDP accountant bound the same mechanism, so that RDP's epsilon is the larger one
# Seen:     PLD 9.9973, RDP 4.7285. The PLD accountant doubles the sensitivity under REPLACE_ONE (a replaced record
#           moves a sum by twice the clip norm); the RDP accountant takes the multiplier as it is and leaves the factor
#           to its caller: with multiplier 1/2 it gives 10.7255. Neither docstring says so.
# Fails if the library behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dp-accounting==0.6.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

relation = NeighboringRelation.REPLACE_ONE


def epsilon(accountant, multiplier):
    accountant.compose(GaussianDpEvent(multiplier))
    return round(accountant.get_epsilon(1e-5), 4)


found = {
    "PLD at z = 1": epsilon(PLDAccountant(relation), 1.0),
    "RDP at z = 1": epsilon(RdpAccountant(neighboring_relation=relation), 1.0),
    "RDP at z = 1/2": epsilon(RdpAccountant(neighboring_relation=relation), 0.5),
}
print("dp-accounting", version("dp-accounting"), found)
assert found == {"PLD at z = 1": 9.9973, "RDP at z = 1": 4.7285, "RDP at z = 1/2": 10.7255}, found
PYTHON
