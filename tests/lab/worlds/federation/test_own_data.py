"""The user's own data in a matrix: clients by files, functions, ids, remarks, and what a result says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qflsec.base import ConfigError, DataError
from qflsec.lab import assemble, build, from_json, parse_spec, run_matrix, to_json
from qflsec.lab.worlds.federation.world import FederationWorld
from qflsec.report import render_report

SIZES = "members = 24, nonmembers = 12, auxiliary = 12, test = 12"
LOAD = """
from helper_o import SHIFT
import numpy as np


def load():
    x = np.random.default_rng(0).normal(size=(60, 2)) + SHIFT
    return {"features": x, "labels": np.arange(60) % 2, "class_names": ["calm", "stormy"]}
"""


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    """Three clients with 20, 30 and 40 records; the column "id" counts those of each file."""
    (tmp_path / "clients").mkdir()
    generator = np.random.default_rng(0)
    for name, count in {"north": 20, "south": 30, "west": 40}.items():
        rows = [
            f"{i + 1};{generator.normal():.4f};{generator.normal():.4f};{'calm' if i % 2 else 'stormy'}"
            for i in range(count)
        ]
        text = "\n".join(["id;a;b;weather", *rows]).replace(".", ",")
        (tmp_path / "clients" / f"{name}.csv").write_text(text)
    return tmp_path


def own(tiny_text: str, data: str, federation: str = "") -> str:
    """The tiny matrix on other data; its federation says nothing of clients by default."""
    lines = [
        f"data = {{ {data}, n_features = 2, reduction = 'none', {SIZES} }}"
        if line.startswith("data = ")
        else f"federation = {{ rounds = 1, learning_rate = 0.3{federation} }}"
        if line.startswith("federation = ")
        else line
        for line in tiny_text.replace("seeds = [0, 1]", "seeds = [0]").splitlines()
    ]
    return "\n".join(lines)


FILES = "name = 'csv', path = 'clients/*.csv', label_column = 'weather', separator = ';', decimal = ',', drop = ['id']"


def world(text: str, base: Path) -> FederationWorld:
    found = build(parse_spec(text, base=base))
    assert isinstance(found, FederationWorld)
    return found


def test_files_are_clients_and_the_result_says_so(tiny_text: str, clients: Path) -> None:
    made = world(own(tiny_text, FILES), clients)
    assert made.matrix.pipelines["main"].federation.n_clients == 3
    assert made.matrix.pipelines["main"].partition.kind == "files"
    for _ in run_matrix(made, clients / "s.sqlite", jobs=1):
        pass
    result = assemble(made, clients / "s.sqlite")
    assert result.failures == ()
    facts = result.data["main"]  # type: ignore[attr-defined]
    assert facts["classes"] == {"calm": 45, "stormy": 45}
    assert facts["clients"] == {"north": 5, "south": 8, "west": 11}
    assert facts["features"] == ["a", "b"]
    assert "auxiliary records" in facts["fitted_on"]
    again = from_json(to_json(result))
    assert again.data == result.data  # type: ignore[attr-defined]
    html = render_report(result)
    for words in ("calm (45), stormy (45)", "north (5), south (8), west (11)", "lie outside the range"):
        assert words in html


def test_the_number_of_clients_must_agree(tiny_text: str, clients: Path) -> None:
    assert (
        world(own(tiny_text, FILES, ", n_clients = 3"), clients).matrix.pipelines["main"].federation.n_clients
        == 3
    )
    with pytest.raises(
        ConfigError, match=r"pipelines.main.federation.n_clients: each file is a client's; got 4; expected 3"
    ):
        world(own(tiny_text, FILES, ", n_clients = 4"), clients)
    with pytest.raises(DataError, match=r"pipelines.main.data: no data file matches the pattern"):
        world(own(tiny_text, FILES.replace("clients/", "none/")), clients)
    pooled = own(tiny_text, FILES, ", n_clients = 4").replace(
        "[pipelines.main]", "[pipelines.main]\npartition = { kind = 'iid' }"
    )
    assert world(pooled, clients).matrix.pipelines["main"].federation.n_clients == 4


def test_what_is_odd_is_said_once_for_all_pipelines(tiny_text: str, clients: Path) -> None:
    text = own(tiny_text, FILES.replace(", drop = ['id']", ", columns = ['id', 'a']"))
    head, table = text.split("[stacks]", 1)
    twice = head + head.partition("[pipelines.main]")[2].join(["[pipelines.other]", "[stacks]"]) + table
    found = [remark for remark in world(twice, clients).remarks() if "running number" in remark]
    assert found == [
        'data of main, other: a running number is no feature, and tells who a record is: id; drop = ["id"]'
    ]


def test_the_content_of_every_client_is_part_of_an_id(tiny_text: str, clients: Path) -> None:
    def planned() -> str:
        return world(own(tiny_text, FILES), clients).layout.trials["loss-threshold", "none", 0].unit_id

    first = planned()
    assert planned() == first
    with (clients / "clients" / "west.csv").open("a") as file:
        file.write("\n41;1,0;1,0;calm")
    second = planned()
    (clients / "clients" / "east.csv").write_text((clients / "clients" / "west.csv").read_text())
    assert len({first, second, planned()}) == 3


def test_a_function_with_its_imports_is_part_of_an_id(tiny_text: str, tmp_path: Path) -> None:
    text = own(tiny_text, "name = 'function', path = 'data.py:load'", ", n_clients = 3")
    found = []
    for folder, helper in (("a", "SHIFT = 0\n"), ("b", "SHIFT = 0\n"), ("c", "SHIFT = 1\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.py").write_text(LOAD)
        (tmp_path / folder / "helper_o.py").write_text(helper)
        made = world(text, tmp_path / folder)
        found.append(made.layout.trials["loss-threshold", "none", 0].run.unit_id)
        assert made.matrix.code["data of pipeline main"].root.name == "data.py"
    assert found[0] == found[1] != found[2]
    (tmp_path / "a" / "data.py").write_text(LOAD + "\n\nraise ValueError('no')\n")
    with pytest.raises(DataError, match=r"pipelines.main.data: .*data.py fails; got ValueError: no"):
        world(text, tmp_path / "a")


@pytest.mark.parametrize("suffix", ["tsv", "txt"])
def test_a_file_of_any_ending_is_found_beside_the_specification_and_covered(
    tiny_text: str, tmp_path: Path, suffix: str
) -> None:
    text = own(
        tiny_text,
        f"name = 'csv', path = 'table.{suffix}', label_column = 'y', separator = '\\t'",
        ", n_clients = 3",
    )
    text = text.replace("'\\t'", '"\\t"')
    found = []
    for last in ("1", "2"):
        (tmp_path / f"table.{suffix}").write_text(f"a\tb\ty\n1\t1\tn\n2\t{last}\ty\n")
        found.append(world(text, tmp_path).layout.trials["loss-threshold", "none", 0].unit_id)
    assert found[0] != found[1]


def test_shadow_models_of_clients_files_are_trained(tiny_text: str, clients: Path) -> None:
    """Nobody tells the adversary whose its records are: shadow models spread them over as many clients."""
    text = own(tiny_text, FILES).split("[[attacks]]", maxsplit=1)[0]
    text += '[[attacks]]\nname = "lira"\npipeline = "main"\nthreat = "server"\nparams = { shadows = 4 }\n'
    text = text.replace('clip = [{ name = "client-clip", clip_norm = 0.5 }]\n', "")
    text = text.replace(
        'link = [{ name = "aes-gcm-link" }]\nbad = [{ name = "masked" }, { name = "median" }]\n', ""
    )
    made = world(text, clients)
    for _ in run_matrix(made, clients / "s.sqlite", jobs=1):
        pass
    result = assemble(made, clients / "s.sqlite")
    assert result.failures == ()
    assert [row.status for row in result.cells["lira", "none"].per_seed] == ["ok"]  # type: ignore[attr-defined]
