"""Synthetic network flows: benign traffic and four attacks, two of them rare.

Nothing here is recorded traffic. Each class is a short causal story, and every feature follows from it:

- a flow sends 1 + floor(exp(N(m, s))) packets (log-normal, so heavy-tailed), and gets a Poisson number of answers whose mean
  is that times exp(N(r, 0.4));
- a packet's mean size is a gamma variable with shape 4, cut to 40 to 1500 bytes; bytes are packets times size;
- the gap between packets is Lomax with index 1.5, whose variance is infinite; a flow lasts packets times gap;
- of 32 connections of the same source each goes to its main port with a probability from a beta distribution, and to one
  of 1024 others otherwise; the feature is the entropy of the ports that were seen;
- each packet out opens a connection (SYN), and each packet in refuses one (RST), with probabilities from beta distributions.

Sizes, counts and times are given as log10(1 + x), as monitors plot them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qflsec.base import numpy_stream
from qflsec.data.raw import RawData

__all__ = ["FLOW_CLASSES", "FLOW_COUNTS", "FLOW_FEATURES", "make_flows"]

FLOW_FEATURES = (
    "log10 duration (ms)",
    "log10 bytes out",
    "log10 bytes in",
    "log10 packets out",
    "log10 packets in",
    "port entropy (bits)",
    "SYN share",
    "RST share",
)
_RANGES = ((0.0, 8.0), (0.0, 8.0), (0.0, 8.0), (0.0, 5.0), (0.0, 5.0), (0.0, 5.0), (0.0, 1.0), (0.0, 1.0))
_CONNECTIONS = 32
_OTHER_PORTS = 1024

Column = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A class of traffic; pairs are the two parameters of a beta distribution."""

    name: str
    count: int
    packets: tuple[float, float]
    answers: float
    sizes: tuple[float, float]
    gap: float
    focus: tuple[float, float]
    syn: tuple[float, float]
    rst: tuple[float, float]


_KINDS = (
    _Kind(
        name="benign",
        count=4320,
        packets=(2.5, 1.3),
        answers=0.0,
        sizes=(250, 600),
        gap=30.0,
        focus=(6, 4),
        syn=(2, 20),
        rst=(1, 30),
    ),
    _Kind(
        name="port scan",
        count=780,
        packets=(0.4, 0.6),
        answers=-0.7,
        sizes=(70, 70),
        gap=20.0,
        focus=(2, 6),
        syn=(5, 4),
        rst=(3, 8),
    ),
    _Kind(
        name="flood",
        count=720,
        packets=(5.0, 1.0),
        answers=-1.5,
        sizes=(120, 90),
        gap=2.0,
        focus=(16, 2),
        syn=(3, 5),
        rst=(2, 12),
    ),
    _Kind(
        name="password guessing",
        count=120,
        packets=(2.6, 0.5),
        answers=-0.1,
        sizes=(140, 160),
        gap=40.0,
        focus=(12, 3),
        syn=(3, 18),
        rst=(2, 12),
    ),
    _Kind(
        name="exfiltration",
        count=60,
        packets=(4.2, 0.8),
        answers=-0.9,
        sizes=(900, 130),
        gap=25.0,
        focus=(8, 4),
        syn=(2, 25),
        rst=(1, 30),
    ),
)
FLOW_CLASSES = tuple(kind.name for kind in _KINDS)
FLOW_COUNTS = tuple(kind.count for kind in _KINDS)


def make_flows() -> RawData:
    """6000 flows, the same ones every time.

    Of them 72 % are benign, 13 % port scans, 12 % floods, 2 % password guessing and 1 % exfiltration.

    Shapes:
        features: ``[6000, 8]``
    """
    tables = [_flows(kind, numpy_stream(0, "data", "synthetic-flows", kind.name)) for kind in _KINDS]
    labels = np.repeat(np.arange(len(_KINDS)), FLOW_COUNTS)
    order = numpy_stream(0, "data", "synthetic-flows", "order").permutation(len(labels))
    low, high = np.array(_RANGES).T
    return RawData(
        features=np.clip(np.concatenate(tables), low, high)[order],
        labels=labels[order].astype(np.int64),
        feature_names=FLOW_FEATURES,
        class_names=FLOW_CLASSES,
        ranges=_RANGES,
    )


def _flows(kind: _Kind, generator: np.random.Generator) -> Column:
    n = kind.count
    sent = 1 + np.floor(generator.lognormal(*kind.packets, size=n))
    answered = generator.poisson(sent * generator.lognormal(kind.answers, 0.4, size=n)).astype(np.float64)
    sizes = [np.clip(generator.gamma(4.0, mean / 4.0, size=n), 40, 1500) for mean in kind.sizes]
    gap = kind.gap * generator.pareto(1.5, size=n)
    syn = generator.binomial(sent.astype(np.int64), generator.beta(*kind.syn, size=n)) / sent
    rst = generator.binomial(answered.astype(np.int64), generator.beta(*kind.rst, size=n))
    columns = [
        np.log10(1 + gap * (sent + answered)),
        np.log10(1 + sent * sizes[0]),
        np.log10(1 + answered * sizes[1]),
        np.log10(1 + sent),
        np.log10(1 + answered),
        _port_entropy(generator.beta(*kind.focus, size=n), generator),
        syn,
        rst / np.maximum(1.0, answered),
    ]
    return np.stack(columns, axis=1)


def _port_entropy(focus: Column, generator: np.random.Generator) -> Column:
    """Entropy in bits of the ports of a window of connections; port 0 is the main one.

    Shapes:
        focus: ``[n]``; returns: ``[n]``
    """
    shape = (len(focus), _CONNECTIONS)
    others = 1 + generator.integers(_OTHER_PORTS, size=shape)
    ports = np.where(generator.random(shape) < focus[:, None], 0, others)
    # the share of each connection's own port: the mean of its -log2 over connections is the entropy
    same = (ports[:, :, None] == ports[:, None, :]).mean(axis=2)
    entropy: Column = -np.log2(same).mean(axis=1)
    return entropy
