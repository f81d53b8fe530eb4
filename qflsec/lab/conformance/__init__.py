"""What every plugin has to keep to, as checks that can be run on any."""

from __future__ import annotations

from qflsec.lab.conformance.cards import card_faults, value_faults
from qflsec.lab.conformance.check import Check, check_plugin, check_thing, registered_by

__all__ = ["Check", "card_faults", "check_plugin", "check_thing", "registered_by", "value_faults"]
