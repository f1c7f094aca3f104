"""``floemap fetch``: download published data. The only commands that use a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from floemap.cli.app import command, group, progress_wanted, stderr, stdout
from floemap.cli.bars import bar
from floemap.cli.out_option import out_option
from floemap.cli.terminal import json_text
from floemap.counts import counted
from floemap.errors import ConfigError
from floemap.progress import Progress
from floemap.results.stage import make_folder, os_errors, refuse_within, write_json

if TYPE_CHECKING:
    from floemap.datasets.ai4arctic.inventory import Inventory as Ai4Inventory
    from floemap.datasets.download.many import Plan
    from floemap.datasets.extremeearth.inventory import Finding, Inventory

fetch = group("fetch", "Download published data.")


@command("extremeearth", to=fetch, resumes=True)
def extremeearth(
    out: Annotated[Path | None, out_option("Download the missing files into this folder.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Download nothing; check this folder, of any layout, zips included.")
    ] = None,
    months: Annotated[str, typer.Option(help='Months, as in "1,7" or "2-4,12".')] = "all",
    only: Annotated[Literal["charts", "products"] | None, typer.Option(help="Only charts, or only products.")] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="With --check, also compare the pixel files with their checksums.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Download the ExtremeEarth V2 dataset: twelve ice charts (Zenodo) and their radar scenes (Copernicus Data Space).

    The scenes need a free account of the Copernicus Data Space Ecosystem: set FLOEMAP_CDSE_USER and
    FLOEMAP_CDSE_PASSWORD, or add identity.dataspace.copernicus.eu to ~/.netrc. An interrupted download is resumed. The
    exit code is 0 only if all requested files are present and correct.

        floemap fetch extremeearth --out extremeearth

        floemap fetch extremeearth --check my/folder
    """
    from floemap.datasets.extremeearth.inventory import check_dataset
    from floemap.datasets.extremeearth.scenes import EVERYTHING, months_from_text

    if (out is None) == (check is None):
        raise ConfigError("give either --out or --check.", hint="--out downloads, --check checks a folder.")
    if checksums and check is None:
        raise ConfigError("--checksums needs --check.", hint="Downloaded files are always verified.")
    chosen = months_from_text(months)
    wanted = (only,) if only else EVERYTHING
    if check is not None:
        with bar("checking") as progress:
            inventory = check_dataset(check, chosen, wanted, checksums=checksums, progress=progress)
    else:
        from floemap.datasets.extremeearth.fetch import fetch_extremeearth

        assert out is not None
        with bar("fetching") as progress:
            inventory = fetch_extremeearth(
                out, months=chosen, what=wanted, announce=_announce, progress=_in_gb(progress)
            )
    _print(inventory, as_json=as_json)
    if not inventory.complete:
        raise typer.Exit(1)


def _in_gb(progress: Progress) -> Progress:
    """Return the progress callback of a download, which counts bytes."""

    def shown(done: float, total: float, what: str) -> None:
        progress(done, total, f"{done / 1e9:.2f} of {total / 1e9:.2f} GB, {what[:40]}")

    return shown


def _announce(plan: Plan) -> None:
    if not progress_wanted.quiet:
        need, free = plan.bytes_at_most / 1e9, plan.bytes_free / 1e9
        stderr.print(f"{counted(len(plan.jobs), 'file')} to download: up to {need:.2f} GB; {free:.2f} GB are free")


def _print(inventory: Inventory, *, as_json: bool) -> None:
    if as_json:
        print(json_text(inventory.as_json()))  # noqa: T201  plain, for pipes
        return
    for m in inventory.months:
        stdout.print(f"{m.scene.month:02d} {m.scene.title}", style="bold")
        for name, finding in (("product", m.product), ("chart", m.chart)):
            _print_finding(name, finding, m.scene.product if name == "product" else m.scene.chart)
    for problem in (*inventory.problems, *inventory.unreadable):
        stdout.print(problem, style="red")
    if inventory.simulated:
        stdout.print(f"Simulated products: {inventory.simulated}. They are no evidence about real ice.", style="yellow")
    counts = ", ".join(f"{inventory.count(s)} {s}" for s in ("right", "missing", "wrong"))
    stdout.print(f"{inventory.root}: {' and '.join(inventory.what)}: {counts}")


def _print_finding(name: str, finding: Finding, lacking: str) -> None:
    style = {"right": "green", "missing": "yellow", "wrong": "red"}[finding.state]
    stdout.print(f"  {name:8}{finding.state:8}", style=style, end="")
    stdout.print(finding.where or lacking)
    for line in (*finding.problems, *finding.notes):
        stdout.print(f"    {line}")


@command("ai4arctic", to=fetch, resumes=True)
def ai4arctic(
    out: Annotated[
        Path | None,
        out_option("Download the missing files into this folder; with --check, write check.json."),
    ] = None,
    check: Annotated[Path | None, typer.Option(help="Download nothing; check this folder, of any layout.")] = None,
    scenes: Annotated[
        str,
        typer.Option(
            help='Scenes: "all", "train" and "test" (the official lists), "twice" (charted by both services), or names '
            "such as 20180607T184326_dmi, joined by commas."
        ),
    ] = "all",
    form: Annotated[
        Literal["ready", "raw", "both"], typer.Option(help="Ready-to-train files, raw files, or both.")
    ] = "ready",
    mirror: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Web folder that has the files under their names, instead of figshare."),
    ] = None,
    agreement: Annotated[
        bool,
        typer.Option(
            "--agreement", help="With --check, also compare the charts that both services drew on one product."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Download files of the AI4Arctic sea ice challenge dataset from DTU's figshare (DOI 10.11583/DTU.c.6244065).

    An interrupted download is resumed; files are verified by size and MD5 before they get their names. Then every file
    of the folder is opened, and its variables and shapes are checked. The exit code is 1 if a file could not be
    downloaded or is wrong, or a scene lacks bands or chart.

        floemap fetch ai4arctic --out ai4arctic --scenes test

        floemap fetch ai4arctic --check my/folder
    """
    from floemap.datasets.ai4arctic.inventory import check_ai4arctic

    if agreement and check is None:
        raise ConfigError("--agreement needs --check.", hint="It reads the charts of a folder.")
    if check is None and out is None:
        raise ConfigError("give --out or --check.", hint="--out downloads, --check checks a folder.")
    if check is not None:
        if (scenes, form, mirror) != ("all", "ready", None):
            hint = "It checks all files of the folder."
            raise ConfigError("--check takes no --scenes, --form or --mirror.", hint=hint)
        with bar("checking") as progress:
            inventory = check_ai4arctic(check, progress=progress)
    else:
        from floemap.datasets.ai4arctic.fetch import fetch_ai4arctic, scenes_of_text

        assert out is not None
        chosen = scenes_of_text(scenes)
        with bar("fetching") as progress:
            inventory = fetch_ai4arctic(
                out,
                scenes=chosen,
                forms=("ready", "raw") if form == "both" else (form,),
                mirror=mirror,
                announce=_announce,
                progress=_in_gb(progress),
            )
    facts = inventory.as_json()
    if agreement:
        facts["agreement"] = _agreements(inventory)
    if check is not None and out is not None:
        refuse_within(out, into=True)
        with os_errors(out):
            make_folder(out)
            write_json(out / "check.json", facts)
    if as_json:
        print(json_text(facts))  # noqa: T201  plain, for pipes
    else:
        _print_ai4arctic(inventory, facts)
    if inventory.problems:
        raise typer.Exit(1)


def _agreements(inventory: Ai4Inventory) -> list[dict[str, Any]]:
    """Compare the ready-to-train charts of the products that both services charted and the folder has."""
    from floemap.datasets.ai4arctic.scenes import charted_twice
    from floemap.evaluation.scoring.challenge import service_agreement

    charts = {}
    for entry in inventory.entries:
        path = entry.files.get("reference", entry.files.get("ready"))
        if path is not None and entry.scene is not None:
            charts[entry.scene] = path
    pairs = charted_twice(charts)
    if not pairs:
        raise ConfigError(
            f"{inventory.root} has no two ready-to-train files of one product.",
            hint="`floemap fetch ai4arctic --scenes twice --out DIR` downloads them.",
        )
    return [service_agreement(charts[a], charts[b]) for a, b in pairs]


def _print_ai4arctic(inventory: Ai4Inventory, facts: dict[str, Any]) -> None:
    for problem in inventory.problems:
        stdout.print(problem, style="red")
    if inventory.simulated:
        stdout.print("The scenes are simulated. They are no evidence about real ice.", style="yellow")
    for use, number in facts["official"].items():
        stdout.print(f"{use:6}{number} of {number + facts['missing'][use]} scenes of the official list")
    for name in facts["test_scenes_sharing_an_orbit"]:
        stdout.print(f"test scene {name} shares its orbit with a training scene")
    for a, b in facts["charted_by_two_services"]:
        stdout.print(f"{a} and {b} are charts of two services on one product")
    for found in facts.get("agreement", ()):
        stdout.print(found["product"], style="bold")
        for service in ("DMI", "CIS"):
            scores = {k: v for k, v in found[service].items() if k != "pixels"}
            words = ", ".join(f"{k} {'-' if v is None else f'{100 * v:.1f} %'}" for k, v in scores.items())
            stdout.print(f"  the other chart against that of {service}: {words}")
    stdout.print(
        f"{inventory.root}: {counted(facts['scenes'], 'scene')}, {counted(len(inventory.problems), 'problem')}"
    )


@command("weights", to=fetch, resumes=True)
def weights(
    out: Annotated[Path, out_option("Folder for the file.")] = Path("weights"),
) -> None:
    """Download the ImageNet weights of ResNet18 from which the published study started (47 MB, torchvision's file).

    Name the file in a configuration: [model] encoder_weights = "weights/resnet18-f37072fd.pth".

        floemap fetch weights --out weights
    """
    from floemap.learning.models.pretrained import check_weights, fetch_weights

    with bar("fetching") as progress:
        path = fetch_weights(out, progress=progress)
    stdout.print(str(path))
    stdout.print(f"SHA-256 {check_weights(path)}")
