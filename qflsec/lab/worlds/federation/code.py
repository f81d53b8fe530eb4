"""The user's code in a matrix: what an id covers, and what it cannot cover."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qflsec.attacks import Attack
from qflsec.base import find
from qflsec.base.sources import Sources
from qflsec.base.user_code import load_file, sources_in_use
from qflsec.federation import Layer, Pipeline
from qflsec.lab.grid.files import python_files
from qflsec.lab.worlds.federation.results import CodeInfo

__all__ = ["attack_part", "code_info", "layer_parts", "pipeline_parts", "sources_of"]

Parts = dict[str, object]


def pipeline_parts(pipeline: Pipeline) -> Parts:
    """What a pipeline is made of that a plugin can bring, by its kind and registry name."""
    data, kind = pipeline.data.name, pipeline.partition.kind
    return {
        f"model {pipeline.model.name}": pipeline.model,
        f"dataset {data}": find("dataset", data),
        f"partition {kind}": find("partition", kind),
    }


def layer_parts(layers: Iterable[Layer]) -> Parts:
    """The layers of a stack."""
    return {f"layer {layer.card.name}": layer for layer in layers}


def attack_part(attack: Attack) -> Parts:
    """An attack."""
    return {f"attack {attack.card.name}": attack}


def sources_of(parts: Mapping[str, object], pipelines: Mapping[str, Pipeline]) -> dict[str, Sources]:
    """The sources of the parts that do not come with the package, and of the files that models name.

    Raises:
        ConfigError: Code stands in no file, has changed since it was imported, or cannot be told apart.
    """
    modules = {label: sys.modules[_maker(part).__module__] for label, part in parts.items()}
    own = {
        label: module for label, module in modules.items() if module.__name__.partition(".")[0] != "qflsec"
    }
    for name, pipeline in pipelines.items():
        for path in python_files(pipeline.model.to_config()):
            own[f"model of pipeline {name}"] = load_file(path)
    return sources_in_use(own)


def code_info(label: str, sources: Sources) -> CodeInfo:
    """What a report says of one part."""
    return CodeInfo(
        part=label,
        files=(sources.root.name, *sources.digests, *sources.data),
        installed=tuple(f"{name} {version}" for name, version in sources.installed.items()),
        not_covered=sources.not_covered,
    )


def _maker(part: object) -> Callable[..., Any]:
    """The class or function that a registered thing comes down to."""
    while isinstance(part, functools.partial):
        part = part.func
    if inspect.isclass(part):
        return part
    return inspect.unwrap(part) if inspect.isfunction(part) else type(part)
