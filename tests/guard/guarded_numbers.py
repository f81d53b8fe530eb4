"""Numbers of the guard as JSON: exact, small, and compared bit for bit or within a stated tolerance."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

_JUMPS = ("update-quantization", "snapshot", "gradient-pruning | inconsistent-models")
"""By the last bit of a number a level of a few bits turns over, a search in a system without a solution ends elsewhere, and of a
gradient that is nearly zero other entries are the largest."""


def fingerprint() -> dict[str, str]:
    """What bits of results depend on besides the code."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "processor": _processor(),
    }


def packed(vector: torch.Tensor) -> str:
    """A vector as its dtype and the base64 of its bytes: a quarter of the digits."""
    array = vector.detach().cpu().numpy()
    return f"{array.dtype.str}:{base64.b64encode(array.tobytes()).decode()}"


def unpacked(text: str) -> np.ndarray[Any, Any]:
    """The vector of :func:`packed`."""
    dtype, _, data = text.partition(":")
    return np.frombuffer(base64.b64decode(data), dtype=dtype)


def plain(value: Any) -> Any:
    """JSON types: floats read back exactly from their shortest form, and those that are not finite are words."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def differences(stored: Any, now: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ by a bit, each as one line.

    Accountants sum with vector instructions whose order follows the alignment of memory, so the last digits of an
    epsilon depend on what ran before it in the process: these may differ by 1e-12 of themselves.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        for key in sorted({*stored, *now}):
            where = f"{path} > {key}" if path else key
            if key not in stored or key not in now:
                yield f"{where}: {'is new' if key in now else 'is gone'}"
            else:
                yield from differences(stored[key], now[key], where)
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        for index, (one, other) in enumerate(zip(stored, now, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif " > epsilon > " in path and _near(stored, now, 1e-12):
        return
    elif type(stored) is not type(now) or stored != now:
        yield f"{path}: {stored!r} became {now!r}"


def distances(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Where rows of two machines differ by more than rounding can explain, each as one line.

    Models and losses may differ by 1e-4, accuracies by two test records, epsilons by 1e-6 of themselves, and
    advantages and metrics, which count records, by .05. Status, k and everything else is exact. Raw scores are
    left out, and so is all that is measured where a last bit may decide, which only status and guarantees say
    anything of then. With other instructions (``ATEN_CPU_CAPABILITY=default``) models differ by 2e-6 and no count
    differs.
    """
    yield from differences(*({key: sorted(part) for key, part in rows.items()} for rows in (stored, now)))
    for table in stored:
        for key in sorted({*stored[table]} & {*now[table]}):
            yield from _distances(stored[table][key], now[table][key], key)


def _distances(stored: dict[str, Any], now: dict[str, Any], path: str) -> Iterator[str]:
    slack = {"loss": 1e-4, "train_loss": 1e-4, "advantage": 0.05, "metrics": 0.05, "epsilon": 1e-6}
    slack["accuracy"] = 2.01 / stored.get("n_test", 1)
    measured = {*slack, "params"} - {"epsilon"} if any(part in path for part in _JUMPS) else set()
    for name, before in stored.items():
        pair = before, now.get(name)
        if name in {"initial", "params"}:
            pair, within = (unpacked(pair[0]).tolist(), unpacked(pair[1]).tolist()), 1e-4  # type: ignore[arg-type]
        else:
            within = slack.get(name, 0.0)
        if name not in {"raw", *measured} and not _near(*pair, within):
            yield f"{path} > {name}: {pair[0]!r} became {pair[1]!r}, more than {within} away"


def _near(one: Any, other: Any, within: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key], within) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_near(a, b, within) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= within * max(1.0, abs(one))
    return type(one) is type(other) and one == other


def _processor() -> str:
    """The model of the processor; libraries choose their kernels by it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
