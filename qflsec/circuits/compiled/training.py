"""Local training of many models, each on its own records, in one compiled call."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

from qflsec.circuits.compiled.blocks import back, forward, lane_angles, measure, row_angles, seed
from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.pointers import ahead, once, plain, pointer, small
from qflsec.circuits.compiled.simd import load, splat, store, total
from qflsec.circuits.compiled.tables import Inputs, tables_of, work_of

__all__ = ["CROSS_ENTROPY", "HINGE", "SQUARES", "train"]

CROSS_ENTROPY, SQUARES, HINGE = 0, 1, 2

_INSIDE = 1.0 - 2.0**-22
"""As in :mod:`qflsec.defenses.clipping`: products are rounded, so the target lies a little inside the bound."""


class Rule(NamedTuple):
    """What is minimised.

    Attributes:
        loss: Its code.
        low: The target of other classes, 0 or -1.
        scale: What expectation values are multiplied by.
        clip: The largest norm of a record's gradient; 0 for the gradient of the mean loss.
    """

    loss: int
    low: Any
    scale: Any
    clip: Any


@njit(**INNER)
def _one_output(rule, value, label, told):
    """The loss of one output of two classes, where it is to be told, and its derivative in the scaled value."""
    small()
    if rule.loss == CROSS_ENTROPY:
        sign = 1.0 if label else -1.0
        # the logarithm of 1 + e^-m without overflow
        m = sign * value
        e = math.exp(-abs(m))
        loss = math.log1p(e) + max(-m, 0.0) if told else 0.0
        return loss, -sign * (e if m > 0 else 1.0) / (1.0 + e)
    target = 1.0 if label else rule.low
    if rule.loss == SQUARES:
        return (value - target) ** 2, 2.0 * (value - target)
    gap = 1.0 - target * value
    return max(gap, 0.0), -target if gap >= 0 else 0.0


@njit(**INNER)
def _losses(tables, rule, work, labels, places, losses, told):
    """The loss of each lane, where it is to be told; its derivatives in the outputs become the seeds."""
    once()
    width, count = tables.width, tables.n_outputs
    for lane in range(width):
        label = labels[places[lane]]
        if count == 1:
            loss, slope = _one_output(rule, rule.scale * work.values[lane], label, told)
            losses[lane] = loss
            work.seeds[lane] = tables.one * (rule.scale * slope)
            continue
        loss, highest, norm = 0.0, -math.inf, 0.0
        if rule.loss == CROSS_ENTROPY:
            for j in range(count):
                highest = max(highest, rule.scale * work.values[j * width + lane])
            for j in range(count):
                norm += math.exp(rule.scale * work.values[j * width + lane] - highest)
        for j in range(count):
            value = rule.scale * work.values[j * width + lane]
            if rule.loss == CROSS_ENTROPY:
                slope = math.exp(value - highest) / norm
                if j == label:
                    if told:
                        loss += math.log(norm) + highest - value
                    slope -= 1.0
            else:
                part, slope = _one_output(rule, value, 1 if j == label else 0, told)
                loss += part / count
                slope /= count
            work.seeds[j * width + lane] = tables.one * (rule.scale * slope)
        losses[lane] = loss


@njit(**INNER)
def _clipped(tables, work, bound, factors, norms):
    """The factor of each lane that brings its gradient to the norm: as ``clip_to_norm`` does, in double precision."""
    once()
    width = tables.width
    for lane in range(width):
        norms[lane] = 0.0
    for i in range(tables.n_weights):
        for lane in range(width):
            value = float(work.by_weight[i * width + lane])
            norms[lane] += value * value
    for lane in range(width):
        norm = math.sqrt(norms[lane])
        factor = bound / norm * _INSIDE if norm > bound else 1.0
        # a record whose gradient is not finite contributes nothing
        factors[lane] = tables.one * factor if math.isfinite(norm) else tables.one - tables.one


@njit(inline="always")
def _gradient(tables, rule, inputs, work, labels, chosen, count, stop, scratch, factors, gradient, told):
    """The sum of the chosen records' gradients, clipped where that is asked for; the sum of their losses, if told."""
    width, n_weights = tables.width, tables.n_weights
    zero = splat(tables.one - tables.one)
    losses, norms = scratch, ahead(scratch, width)
    for i in range(n_weights):
        gradient[i] = tables.one - tables.one
    summed = 0.0
    for first in range(0, count, width):
        left = count - first
        inside = min(left, width)
        for lane in range(width):
            inputs.at_features[lane] = chosen[first + (lane if lane < inside else inside - 1)]
        lane_angles(tables, inputs, work, plain(False))
        forward(tables, inputs, work, plain(False))
        measure(tables, work)
        _losses(tables, rule, work, labels, inputs.at_features, losses, told)
        for lane in range(inside):
            summed += losses[lane]
        seed(tables, work, work.psi, work.lam)
        for i in range(n_weights):
            store(work.by_weight, i * width, zero)
        back(tables, inputs, work, plain(False), stop)
        store(factors, 0, splat(tables.one))
        if rule.clip > 0:
            _clipped(tables, work, rule.clip, factors, norms)
        for lane in range(inside, width):
            factors[lane] = tables.one - tables.one
        for lane in range(width):
            # a lane that counts nothing may not be finite, and nothing times infinity is no number
            if factors[lane] == 0:
                for i in range(n_weights):
                    work.by_weight[i * width + lane] = tables.one - tables.one
        for i in range(n_weights):
            gradient[i] += total(load(factors, 0) * load(work.by_weight, i * width))
    return summed


@kept
def train(
    told, stop,
    loss, low, scale, clip, features, start, labels, picks, used, noise, expected,
    kind, rate, momentum, pull, beta1, beta2, epsilon, params, received, steps, moments, chosen, first_losses,
):  # fmt: skip
    """Train models from ``params``, in place, each on its own records.

    Args: a program and its buffers, as :func:`.told.tell` makes it, then
        stop: The first pass that reads a weight.
        loss, low, scale, clip: A :class:`Rule`.
        features: ``(models * records, F)``
        start: ``(models * records, 2**n)``, or nothing.
        labels: ``(models * records,)``
        picks: ``(steps, models, B)``: which record; nothing for all in order.
        used: ``(steps, models, B)``: 1 for a record that counts.
        noise: ``(steps, models, P)``: added to a sum of clipped gradients, or nothing.
        expected: ``(steps, models)``: the divisor of that sum; 0 where a model makes no step.
        kind: 0 for SGD, with momentum where that is set; 1 for Adam.
        rate, momentum, beta1, beta2, epsilon: Of the optimiser.
        pull: ``(P,)``: what FedProx multiplies the way from the received model by.
        params, received: ``(models, P)``
        steps: ``(models,)``; moments: ``(0, 1 or 2, models, P)``: the optimiser's state, moved in place.
        chosen: ``(B,)``: a buffer.
        first_losses: ``(models,)``, written: the mean loss of the first step's records.
    """
    small()
    n_models, n_params = params.shape
    n_steps, _, batch = used.shape
    records = len(features) // n_models
    tables, work = tables_of(pointer(told), params), work_of(pointer(told), params)
    rule = Rule(loss, low, scale, clip)
    current, first, gradient = pointer(params), pointer(received), work.gradient
    inputs = Inputs(
        current, pointer(features), pointer(start), start.size > 0, work.at_weights, work.at_features
    )
    which, counts, added, divisors = pointer(picks), pointer(used), pointer(noise), pointer(expected)
    pulled, made, places = pointer(pull), pointer(steps), pointer(chosen)
    for model in range(n_models):
        for step in range(n_steps):
            count, at = plain(0), step * n_models + model
            for b in range(batch):
                if counts[at * batch + b] > 0:
                    places[count] = model * records + (which[at * batch + b] if picks.size else b)
                    count += 1
            row_angles(tables, work, current, model * n_params)
            # overlaps are free by then: one vector of factors
            summed = _gradient(
                tables, rule, inputs, work, pointer(labels), places, count, stop, work.norms, work.overlaps, gradient,
                step == 0,
            )  # fmt: skip
            several = max(1, count)
            if step == 0:
                first_losses[model] = summed / several
            if not divisors[at] > 0:
                continue
            divisor = divisors[at] if clip > 0 else several
            for i in range(n_params):
                value = gradient[i]
                if noise.size:
                    value += added[at * n_params + i]
                value /= tables.one * divisor
                if pull.size:
                    value += pulled[i] * (current[model * n_params + i] - first[model * n_params + i])
                gradient[i] = value
            made[model] += 1
            _move(
                tables, kind, rate, momentum, beta1, beta2, epsilon, current, gradient, made[model], pointer(moments),
                model * n_params, n_models * n_params,
            )  # fmt: skip


@njit(**INNER)
def _move(tables, kind, rate, momentum, beta1, beta2, epsilon, params, gradient, step, moments, start, apart):
    """One step of the optimiser; its second moments stand ``apart`` from the first."""
    once()
    one = tables.one
    upper, lower = one * (1 - beta1**step), one * (1 - beta2**step)
    for i in range(tables.n_weights):
        change, at = gradient[i], start + i
        if kind == 1:
            first = one * beta1 * moments[at] + one * (1 - beta1) * change
            second = one * beta2 * moments[at + apart] + one * (1 - beta2) * change * change
            moments[at], moments[at + apart] = first, second
            change = (first / upper) / (math.sqrt(second / lower) + one * epsilon)
        elif momentum > 0:
            change = one * momentum * moments[at] + change
            moments[at] = change
        params[at] -= one * rate * change
