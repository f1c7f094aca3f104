"""``floemap monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from floemap.cli.app import command, stderr, stdout
from floemap.cli.out_option import out_option
from floemap.cli.terminal import json_text
from floemap.counts import counted


@command("monitor")
def monitor(
    published: Annotated[
        Path, typer.Argument(metavar="PUBLISHED", help="Folder with charts that `floemap publish` made.")
    ],
    out: Annotated[
        Path | None,
        out_option("Also write monitor.json, CSV tables and a picture to this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")] = False,
) -> None:
    """Follow how much of the drafts analysts change, over many published charts.

    Shows the share of the area at sea that got another dominant type, and another egg: of all charts, by type of the
    draft, by month, by confidence and by model. Charts without a draft are named and not counted. Of several
    issues of a chart, the last counts.

        floemap monitor published --out followed
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from floemap.cli.terminal import printable
    from floemap.publishing.monitor import monitor_charts

    done = monitor_charts(published, out)
    facts = done.facts
    if as_json:
        print(json_text(facts))  # noqa: T201  plain, for pipes
        return
    if facts["simulated"]:
        stderr.print("SIMULATED", style="bold yellow")
    keys = {"charts": "name", "by_type": "type", "by_month": "month", "by_confidence": "", "by_model": "model"}
    for name, key in keys.items():
        shown = Table(title=name.replace("_", " ").capitalize(), title_justify="left", box=SIMPLE_HEAD)
        for column in (key or "confidence", "km²", "another type", "another egg"):
            shown.add_column(column, justify="left" if column == (key or "confidence") else "right")
        for entry in facts[name]:
            shown.add_row(printable(_named(entry, key)), f"{entry['km2']:,.0f}", *_shares(entry))
        stdout.print(shown, soft_wrap=False)
    stdout.print(f"{counted(facts['total']['charts'], 'chart')}, {' and '.join(_in_words(facts['total']))}")
    if done.folder is not None:
        stdout.print(str(done.folder))


def _named(entry: dict[str, Any], key: str) -> str:
    if key:
        return str(entry[key])
    return "unknown" if entry["from"] is None else f"{entry['from']:g} to {entry['to']:g}"


def _shares(entry: dict[str, Any]) -> list[str]:
    shares = [entry[f"other_{what}_share"] for what in ("type", "egg")]
    return ["" if share is None else f"{share:.1%}" for share in shares]


def _in_words(entry: dict[str, Any]) -> list[str]:
    return [f"{share or 'no area'} another {what}" for share, what in zip(_shares(entry), ("type", "egg"), strict=True)]
