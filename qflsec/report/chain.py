"""The figure of one run of BB84: what becomes of the pulses on their way to a key."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError, MissingExtra
from qflsec.protocols.bb84.run import BB84Result
from qflsec.report.chart import Axis, Chart, Series
from qflsec.report.page import render_figure

__all__ = ["chain_steps", "write_chain_figure"]

_COLOUR = "#0072B2"
_SUFFIXES = (".html", ".png")


def chain_steps(result: BB84Result) -> tuple[tuple[str, float], ...]:
    """What is left after each step, in the order of the protocol.

    Units:
        Pulses, then bits.
    """
    config, counts = result.plan.config, result.counts
    reached = result.key.reconciliation is not None
    corrected = max(0, config.n - result.key.leak_ec) if reached else 0
    return (
        ("pulses sent", float(counts.n_pulses)),
        ("detected", float(counts.n_detected)),
        ("equal bases", float(result.sifted_bits)),
        ("raw key (X)", float(min(counts.n_key, config.n))),
        ("less the leak", float(corrected)),
        ("hashed", float(config.length if result.key_length else 0)),
        ("key", float(result.key_length)),
    )


def write_chain_figure(result: BB84Result, path: Path) -> Path:
    """Draw the steps on a logarithmic axis.

    Args:
        result: The run.
        path: A file that ends in ``.html`` (self-contained) or ``.png`` (needs Matplotlib).

    Raises:
        ConfigError: The file has another ending or cannot be written.
        MissingExtra: Matplotlib is not installed.
    """
    check_figure_path(path)
    try:
        if path.suffix == ".png":
            _draw_png(result, path)
        else:
            _draw_html(result, path)
    except OSError as error:
        raise ConfigError("cannot write the figure", got=f"{path}: {error.strerror}") from error
    return path


def check_figure_path(path: Path) -> None:
    """Refuse, before all the work, a figure that could not be written.

    Raises:
        ConfigError: The ending is unknown, or there is no such folder.
        MissingExtra: Matplotlib is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigError("unknown kind of figure", got=path.name, expected=" or ".join(_SUFFIXES))
    if not path.absolute().parent.is_dir():
        raise ConfigError("the folder of the figure does not exist", got=path.absolute().parent)
    if path.suffix == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra(
            "PNG figures need matplotlib, which is not installed",
            fix="pip install matplotlib, or name a file that ends in .html",
        )


def _title(result: BB84Result) -> str:
    line = result.config.line or result.config.expected
    end = f"key of {result.key_length:,} bits" if result.key_length else f"no key: {result.abort_reason}"
    return f"BB84, {result.config.source}, {line.distance_km:g} km: {end} (simulated channel)"


def _draw_html(result: BB84Result, path: Path) -> None:
    names, values = zip(*chain_steps(result), strict=True)
    chart = Chart(
        title=_title(result),
        x=Axis(label="step"),
        y=Axis(label="pulses, then bits", log=True, low=0.5, high=4 * max(values)),
        series=[
            Series(name="", x=names, y=values, kind="bars", labels=[f"{value:,.0f}" for value in values])
        ],
    )
    path.write_text(render_figure(chart), encoding="utf-8")


def _draw_png(result: BB84Result, path: Path) -> None:
    agg: Any = importlib.import_module("matplotlib.backends.backend_agg")
    figures: Any = importlib.import_module("matplotlib.figure")
    names, values = zip(*chain_steps(result), strict=True)
    figure = figures.Figure(figsize=(8.0, 4.0), dpi=130, layout="constrained")
    agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    bars = axes.bar(names, [max(value, 0.5) for value in values], color=_COLOUR)
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], fontsize=8)
    axes.set(yscale="log", ylabel="pulses, then bits", ylim=(0.5, 4 * max(values)))
    axes.set_title(_title(result), fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
    figure.savefig(path)
