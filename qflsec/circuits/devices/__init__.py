"""Devices whose calibration Qiskit knows: their noise as a value, and circuits as they run there."""

from __future__ import annotations

from qflsec.circuits.devices.circuit import on_device, transpiled
from qflsec.circuits.devices.noise import DeviceNoise
from qflsec.circuits.devices.table import DeviceTable, device_table, read_noise_model

__all__ = [
    "DeviceNoise",
    "DeviceTable",
    "device_table",
    "on_device",
    "read_noise_model",
    "transpiled",
]
