"""What the user's code can bring into a pipeline or a stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qflsec.base import find
from qflsec.federation import Layer, Pipeline
from qflsec.lab.grid.code import Parts
from qflsec.lab.grid.files import python_files

__all__ = ["data_label", "layer_parts", "pipeline_parts", "user_files"]


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


def data_label(pipeline: str) -> str:
    """What the code that gives a pipeline's data is called."""
    return f"data of pipeline {pipeline}"


def user_files(pipelines: Mapping[str, Pipeline]) -> dict[str, Path]:
    """The files of Python that models, losses and data name."""
    found: dict[str, Path] = {}
    for name, pipeline in pipelines.items():
        model = pipeline.model.to_config()
        loss = {"loss": model.pop("loss", None)}
        for label, config in (
            (f"model of pipeline {name}", model),
            (f"loss of pipeline {name}", loss),
            (data_label(name), pipeline.data.to_config()),
        ):
            found.update((label, path) for path in python_files(config))
    return found
