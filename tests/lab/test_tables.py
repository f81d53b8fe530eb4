"""Results as CSV and LaTeX: what is read back is the document, and no text is a formula or a command."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from qflsec.base import ConfigError
from qflsec.lab import to_dict
from qflsec.lab.tables import cells_csv, latex, ledger_csv, markdown, trials_csv
from qflsec.lab.worlds.federation.results import MatrixResult
from tests.report.conftest import result as result  # noqa: PLC0414 - a fixture
from tests.report.test_channel_report import result as channel_result  # noqa: F401 - a fixture


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_cells_read_back_are_those_of_the_document(result: MatrixResult) -> None:
    found = rows(cells_csv(result))
    cells = to_dict(result)["cells"]
    assert len(found) == len(cells) == 8
    for row, cell in zip(found, cells, strict=True):
        assert (row["attack"], row["column"], row["state"]) == (cell["attack"], cell["stack"], cell["state"])
        assert row["sentence"] == cell["sentence"]
        score = cell["advantage"]
        numbers = [row[name] for name in ("advantage", "advantage_low", "advantage_high")]
        if score is None:
            assert numbers == ["", "", ""]
        else:
            assert [float(one) for one in numbers] == [score["value"], score["low"], score["high"]]


def test_the_ledger_read_back_is_that_of_the_document(result: MatrixResult) -> None:
    found = rows(ledger_csv(result))
    ((ledger),) = to_dict(result)["ledgers"]
    assert len(found) == len(ledger["rows"]) == 1
    for name, value in ledger["rows"][0].items():
        assert found[0][name] == str(value), name
    assert (found[0]["stack"], found[0]["observer"]) == ("none", "server")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_is_a_formula(result: MatrixResult, start: str) -> None:
    name = f"{start}cmd|' /C calc'!A0"
    cell = replace(result.cells["loss", "none"], attack=name, stack=name, sentence=name)
    made = replace(
        result, name=name, cells={(name, name): cell}, ledgers={(name, name): ({"statement": name},)}
    )
    for text in (cells_csv(made), trials_csv(made), ledger_csv(made)):
        for row in rows(text):
            for column, value in row.items():
                if value.startswith(("=", "+", "-", "@", "\t", "\r")):
                    assert float(value) == float(value), column  # a number, and nothing else
    assert rows(cells_csv(made))[0]["attack"] == f"'{name}".replace("\r", "\n")
    first, *others = cell.per_seed
    metrics = {name: next(iter(first.metrics.values()), first.advantage)}
    named = replace(cell, per_seed=(replace(first, metrics=metrics), *others))
    heading = next(csv.reader(io.StringIO(trials_csv(replace(made, cells={(name, name): named})))))
    assert f"'{name}".replace("\r", "\n") in heading
    low = replace(cell, advantage=replace(cell.advantage, value=-0.25))
    assert rows(cells_csv(replace(made, cells={("a", "b"): low})))[0]["advantage"] == "-0.25", "numbers stay"


def test_a_table_in_latex_says_what_the_page_says(result: MatrixResult) -> None:
    text = latex(result)
    for line in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\begin{tabular}{lcccc}",
        r"attack & none & median & masked & broken \textless{}b\textgreater{}\& bold\textless{}/b\textgreater{} \\",
    ):
        assert line in text, line
    assert r"{$0.80$}\\{$[0.70, 0.90]$}" in text
    assert r"{$0.10$}\\{$[0.00, 0.20]$}\\{no power}" in text
    assert r"{$0.900$}\\{$[0.800, 1.000]$}" in text
    assert "blocked" in text
    assert text.count(r"\begin") == text.count(r"\end")
    body = re.sub(r"\\begin\{tabular\}\{@\{\}c@\{\}\}.*?\\end\{tabular\}", "x", text)
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 2 + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {4}


def test_what_users_name_is_no_command(result: MatrixResult) -> None:
    name = r"50% \input{/etc/passwd} & $x_1^2$ #~{}"
    cell = replace(result.cells["loss", "none"], attack=name)
    text = latex(replace(result, name=name, cells={(name, "none"): cell}))
    assert r"\input" not in text
    assert (
        r"50\% \textbackslash{}input\{/etc/passwd\} \& \$x\_1\textasciicircum{}2\$ \#\textasciitilde{}\{\}"
        in text
    )


def test_a_table_in_markdown_says_what_the_page_says(result: MatrixResult) -> None:
    caption, nothing, head, rule, *body = markdown(result).splitlines()
    assert caption.startswith(r"**example \</script\>\<script\>alert(1)")
    assert caption.endswith("95\u202f% intervals over 3 seeds.**")
    assert (nothing, rule) == ("", "|---|---|---|---|---|")
    assert head == r"| attack | none | median | masked | broken \<b\>\& bold\</b\> |"
    assert len(body) == 3
    assert "| 0.80 [0.70, 0.90] |" in body[0]
    name = "a|b *c* [d](e)\n`f`"
    cell = replace(result.cells["loss", "none"], attack=name)
    made = markdown(replace(result, name=name, cells={(name, "none"): cell})).splitlines()
    assert made[4].startswith(r"| a\|b \*c\* \[d\](e) \`f\` | ")
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in made[2:]} == {3}


def test_other_kinds_have_tables_too(channel_result) -> None:  # type: ignore[no-untyped-def]  # noqa: F811, ANN001
    found = rows(cells_csv(channel_result))
    assert [row["state"] for row in found] == ["key holds", "no key", "false key", "not applicable"]
    assert float(found[0]["eve_information_bits_per_raw_bit"]) == 0.5
    assert float(found[0]["eve_information_bits_per_raw_bit_low"]) < 0.5
    assert "false key" in latex(channel_result)
    assert "| false key |" in markdown(channel_result)
    with pytest.raises(ConfigError, match="this matrix has no ledger; got kind 'channel'"):
        ledger_csv(channel_result)
