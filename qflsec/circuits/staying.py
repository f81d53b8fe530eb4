"""A QNode whose values stay in torch, where its function takes them out of it.

``weights.tolist()``, ``np.sin(inputs)`` or ``math.pi * float(x)`` give plain numbers: right for one record, but no batch
and no derivative goes through them. :func:`staying` gives the same QNode with a function in which a list, an array or
a number taken of a tensor holds tensors of one entry each. NumPy computes with these as with any objects; what Python and
``math`` would turn into numbers is done by torch. The twin is a guess at what the function computes, so whoever takes it
compares it with the QNode itself.
"""

from __future__ import annotations

import builtins
import copy
import functools
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Staying", "Valued", "in_torch", "staying"]

_ARRAYS = (Tensor.__array__, Tensor.numpy)
_MADE = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy)


class Valued(TorchFunctionMode):
    """While it is on, arrays of tensors are made value by value: a traced tensor has no memory that NumPy could read."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's interface
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call what is called, unless it makes an array."""
        if func not in _ARRAYS:
            return func(*args, **(kwargs or {}))
        (tensor, *_) = args
        return np.array([one.item() for one in tensor.reshape(-1).unbind()]).reshape(tuple(tensor.shape))


class _Numbers(np.ndarray):
    """An array of objects that are tensors of one entry, or numbers."""

    __array_priority__ = 2000  # beside a tensor, which has 1000, the array's own operators hold

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - NumPy's signature
        """Itself: NumPy would ask each entry for a plain number."""
        return self

    def clip(self, *ends: Any, **options: Any) -> Any:  # noqa: ANN401
        """NumPy would ask each entry which number is larger."""
        return _clip(self, *ends, **options)


class Staying(TorchFunctionMode):
    """While it is on, what tensors give as lists, arrays and floating-point numbers holds tensors."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's interface
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call what is called, or give tensors for numbers."""
        if func is Tensor.item and args[0].is_floating_point():
            return args[0].double().reshape(())
        if func is Tensor.tolist and args[0].is_floating_point():
            return _array(args[0]).tolist()
        if func in _ARRAYS and args[0].is_floating_point():
            return _array(args[0])
        if func is Tensor.__array_wrap__ and (kwargs or {})["array"].dtype == object:
            return _tensor((kwargs or {})["array"])
        if func in _MADE and _holds(args[0]):
            return _tensor(args[0])
        return func(*args, **(kwargs or {}))


def staying(qnode: Any) -> Any:  # noqa: ANN401 - PennyLane's
    """The same QNode, through whose function values stay in torch."""
    function = in_torch(qnode.func)

    @functools.wraps(qnode.func)
    def stays(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        with Staying():
            return function(*args, **options)

    twin = copy.copy(qnode)
    twin.func = stays
    return twin


def in_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that finds torch's versions of ``float``, ``math`` and NumPy, and so do those of its module that it calls."""
    return _Twins(function.__globals__).function(function) if isinstance(function, FunctionType) else function


class _Twins:
    """The twins of one module's functions, each made once; what they see of others stays as it is."""

    def __init__(self, module: dict[str, Any]) -> None:
        self._module, self._names = module, dict(module)
        self._made: dict[int, FunctionType] = {}
        self._names.update((name, self._value(value)) for name, value in module.items())
        self._names.setdefault("float", _Float)

    def function(self, function: FunctionType) -> FunctionType:
        """A function with the twins' names for its globals and in its closure."""
        if id(function) in self._made:
            return self._made[id(function)]
        cells = tuple(CellType() for _ in function.__closure__ or ())
        twin = FunctionType(function.__code__, self._names, function.__name__, function.__defaults__, cells)
        twin.__kwdefaults__ = function.__kwdefaults__
        self._made[id(function)] = twin
        for cell, theirs in zip(cells, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a variable that has no value yet
                cell.cell_contents = self._value(theirs.cell_contents)
        return twin

    def _value(self, value: Any) -> Any:  # noqa: ANN401 - whatever a function sees
        if isinstance(value, FunctionType) and value.__globals__ is self._module:
            return self.function(value)
        return _twins().get(id(value), value)


class _FloatType(type):
    """``float`` as a type, whose calls keep tensors."""

    def __call__(cls, value: Any = 0.0) -> Any:  # noqa: ANN401 - what float takes
        if isinstance(value, np.ndarray) and value.dtype == object:
            value = value.item()
        return value.double().reshape(()) if isinstance(value, Tensor) else builtins.float(value)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, builtins.float)


class _Float(float, metaclass=_FloatType):
    """The type's name in a function."""


class _Module:
    """A module, some of whose functions keep tensors."""

    def __init__(self, module: ModuleType, own: Mapping[str, Any]) -> None:
        self._module, self._own = module, own

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        return self._own[name] if name in self._own else getattr(self._module, name)


class _Gates(_Module):
    """PennyLane, whose operations are given tensors where a function gives arrays and lists that hold them."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        found = super().__getattr__(name)
        if not (isinstance(found, type) and issubclass(found, self._module.operation.Operator)):
            return found
        return lambda *args, **options: found(
            *map(_unpacked, args), **{key: _unpacked(one) for key, one in options.items()}
        )


def _unpacked(value: Any) -> Any:  # noqa: ANN401 - what an operation takes
    return _tensor(value) if not isinstance(value, Tensor) and _holds(value) else value


@functools.cache
def _twins() -> dict[int, Any]:
    """What stands for ``math``, NumPy and their functions, by the identity of these."""
    import pennylane as qml

    scalar = {
        name: _scalar(name) for name in dir(math) if hasattr(torch, name) and callable(getattr(math, name))
    }
    scalar |= {"pow": _power, "fabs": _scalar("abs")}
    arrays: dict[str, Any] = {
        "array": _made,
        "asarray": _made,
        "float64": _Float,
        "float32": _Float,
        "clip": _clip,
        "maximum": _larger("maximum"),
        "minimum": _larger("minimum"),
    }
    twins: dict[int, Any] = {
        id(getattr(math, name)): twin for name, twin in scalar.items() if name in dir(math)
    }
    twins |= {id(getattr(np, name)): twin for name, twin in arrays.items()}
    twins |= {id(math): _Module(math, scalar), id(np): _Module(np, arrays)}
    # PennyLane's arrays are NumPy's with a note for its own derivatives
    pennylane_arrays = _Module(np, {**arrays, "tensor": _made})
    twins |= {id(qml.numpy): pennylane_arrays, id(qml): _Gates(qml, {"numpy": pennylane_arrays})}
    return twins


def _scalar(name: str) -> Callable[..., Any]:
    """A function of ``math``, on tensors as well."""

    def twin(*values: Any) -> Any:  # noqa: ANN401 - numbers and tensors
        values = tuple(value.item() if isinstance(value, np.ndarray) else value for value in values)
        if not any(isinstance(value, Tensor) for value in values):
            return getattr(math, name, builtins.abs)(*values)
        tensors = [torch.as_tensor(value, dtype=torch.float64).reshape(()) for value in values]
        return getattr(torch, name)(*tensors)

    return twin


def _power(base: Any, exponent: Any) -> Any:  # noqa: ANN401
    return base**exponent


def _made(data: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - NumPy's signature
    """An array of what is given, of the tensors' entries where it holds tensors."""
    if isinstance(data, Tensor) and data.is_floating_point():
        return _array(data)
    if _holds(data):
        return _array(_tensor(data))
    options.pop("requires_grad", None)  # PennyLane's note on an array
    args = tuple(builtins.float if one is _Float else one for one in args)
    options = {key: builtins.float if one is _Float else one for key, one in options.items()}
    return np.array(data, *args, **options)


def _clip(values: Any, low: Any = None, high: Any = None, **options: Any) -> Any:  # noqa: ANN401 - NumPy's signature
    if not _holds(values):
        return np.clip(values, low, high, **options)
    return _array(torch.clamp(_tensor(values), low, high))


def _larger(name: str) -> Callable[..., Any]:
    def twin(a: Any, b: Any, **options: Any) -> Any:  # noqa: ANN401 - NumPy's signature
        if not (_holds(a) or _holds(b)):
            return getattr(np, name)(a, b, **options)
        return _array(getattr(torch, name)(_tensor(a), _tensor(b)))

    return twin


def _holds(data: Any) -> bool:  # noqa: ANN401 - what NumPy and torch take for an array
    """Whether there is a tensor of floating-point numbers in nested lists or an array of objects."""
    if isinstance(data, Tensor):
        return data.is_floating_point()
    if isinstance(data, np.ndarray):
        return bool(data.dtype == object)
    return isinstance(data, (list, tuple)) and any(map(_holds, data))


def _array(tensor: Tensor) -> Any:  # noqa: ANN401 - NumPy's types of objects
    """An array of a tensor's entries; each is a tensor itself."""
    flat = np.empty(tensor.numel(), dtype=object)
    for place, entry in enumerate(tensor.double().reshape(-1).unbind()):
        flat[place] = entry
    return flat.reshape(tuple(tensor.shape)).view(_Numbers)


def _tensor(data: Any) -> Tensor:  # noqa: ANN401 - numbers, tensors, nested lists and arrays of them
    """A tensor of what is given."""
    if isinstance(data, np.ndarray) and data.dtype == object:
        data = data.tolist()
    if isinstance(data, (list, tuple)):
        return torch.stack([_tensor(one) for one in data])
    if isinstance(data, Tensor):
        return data.double()
    return torch.from_numpy(np.asarray(data, dtype=np.float64))
