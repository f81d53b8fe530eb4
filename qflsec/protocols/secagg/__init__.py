"""Secure aggregation: the server learns the sum of the clients' updates and no part of it."""

from __future__ import annotations

from qflsec.protocols.secagg.fixed_point import FixedPoint
from qflsec.protocols.secagg.masked import Masked, mask_name

__all__ = ["FixedPoint", "Masked", "mask_name"]
