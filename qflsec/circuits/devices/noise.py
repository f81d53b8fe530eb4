"""The noise of a device that Qiskit knows, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from qflsec.base import finite
from qflsec.circuits.devices.table import device_table
from qflsec.circuits.errors import CircuitError

__all__ = ["DeviceNoise"]


@finite
@dataclass(frozen=True, kw_only=True)
class DeviceNoise:
    """What the calibration of a device makes of a circuit: gates by name and qubit, relaxation, and readout.

    The circuit is transpiled to the device's gates and places by Qiskit (optimization level 1, a fixed seed). After each
    gate comes the channel of Qiskit Aer's noise model for this gate on these qubits: relaxation over its duration, and
    depolarization that makes up the reported error. Readout errors act on what is measured. Idle qubits, crosstalk, coherent
    errors, leakage, and drift are not in it.

    Attributes:
        device: ``"generic"``, a line of qubits with a calibration drawn by Qiskit; or a device of
            ``qiskit_ibm_runtime.fake_provider``, such as ``"FakeManilaV2"`` (extra ``hardware``).
        qubits: Of the generic device.
        seed: Of its calibration.
        times: How often the channel of each gate acts, for extrapolation to no noise; readout errors act once.

    Raises:
        CircuitError: A value is out of range.

    Source:
        Qiskit Aer, ``NoiseModel.from_backend``, which makes the channels (extra ``aer``).
    """

    device: str
    qubits: int = 5
    seed: int = 0
    times: int = 1

    def __post_init__(self) -> None:
        for name, least in (("qubits", 2), ("seed", 0), ("times", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CircuitError(f"bad {name!r} of a device", got=repr(value), expected=f"at least {least}")
        if not self.device.isidentifier():
            raise CircuitError(
                "not the name of a device", got=repr(self.device), expected="'generic' or a class"
            )

    def repeated(self, times: int) -> DeviceNoise:
        """The device whose gates' channels act so many times over.

        Args:
            times: How often, at least once.
        """
        return replace(self, times=self.times * times)

    def to_config(self) -> dict[str, object]:
        """Every parameter and the digest of the calibration, JSON-able.

        Raises:
            CircuitError: There is no such device.
            MissingExtra: A package is not installed.
        """
        return {**asdict(self), "digest": device_table(self.device, self.qubits, self.seed).digest}
