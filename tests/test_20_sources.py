"""Where charts come from: archives as services give them, names in any case, open edits; and a chart's identity."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from chart_maker import FOUR, grid, ice, squares, write_chart

from floemap.cog import Band, write_cog
from floemap.errors import ChartError
from floemap.icechart.label.label import label_chart
from floemap.icechart.land import describe_land, land_on
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.read.sources import find_source

PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")


@pytest.fixture
def like(tmp_path: Path) -> Path:
    write_cog(tmp_path / "like.tif", grid(), np.ones(grid().shape, np.uint8), [Band("any")], nodata=0)
    return tmp_path / "like.tif"


def classes(folder: Path) -> list[int]:
    """The class of each of the four squares."""
    with rasterio.open(folder / "labels.tif") as d:
        return d.read(1)[32, 32::64].tolist()


def zipped(path: Path, **members: bytes | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as z:
        for name, content in members.items():
            z.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


def parts(chart: Path, inside: str) -> dict[str, bytes]:
    return {f"{inside}{s}": chart.with_suffix(s).read_bytes() for s in PARTS}


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


# --- archives


def test_archives_as_services_give_them(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "plain" / "c.shp")
    expected = read_chart(chart).codes("sa").tolist()
    inner = zipped(tmp_path / "week.zip", **parts(chart, "c"))
    made = [
        zipped(tmp_path / "outer.zip", **dict[str, Any]({"a/week.zip": inner, "readme.txt": b"x"})),
        tarred(tmp_path / "c.tar", parts(chart, "./x/c")),
        tarred(tmp_path / "of_zips.tar", {"week.zip": inner.read_bytes()}),
        zipped(tmp_path / "of_tars.zip", **{"c.tar": tarred(tmp_path / "i.tar", parts(chart, "c"))}),
        zipped(tmp_path / "capital.ZIP", **{k.upper(): v for k, v in parts(chart, "d/c").items()}),
        zipped(tmp_path / "beside.zip", **parts(chart, "c"), **{"c.json": b'{"a": 1}', "c.shp.xml": b"<a/>"}),
    ]
    for path in made:
        assert read_chart(path).codes("sa").tolist() == expected, path.name
        assert find_source(path).files == (path,)


def test_one_of_several_in_an_archive_is_chosen_by_name(tmp_path: Path) -> None:
    one, two = write_chart(tmp_path / "1" / "c.shp", FOUR[:1]), write_chart(tmp_path / "2" / "c.shp", FOUR[:2])
    inner = {name: zipped(tmp_path / name, **parts(c, "c")) for name, c in (("north.zip", one), ("south.zip", two))}
    outer = zipped(tmp_path / "outer.zip", **inner)
    with pytest.raises(ChartError, match=r"holds 2 charts: north\.zip/c\.shp, south\.zip/c\.shp"):
        read_chart(outer)
    for layer in ("south", "south.zip", "south.zip/c.shp"):
        assert len(read_chart(outer, layer=layer)) == 2
    with pytest.raises(ChartError, match="holds 2 charts"):
        read_chart(outer, layer="c")  # both are called so
    broken = zipped(
        tmp_path / "half.zip", **dict[str, Any]({"north.zip": b"PK no zip", "south.zip": inner["south.zip"]})
    )
    assert len(read_chart(broken)) == 2
    with pytest.raises(ChartError, match=r"holds 'north\.zip', which is not a readable zip"):
        read_chart(zipped(tmp_path / "none.zip", **{"north.zip": b"PK no zip"}))
    deep = zipped(tmp_path / "deep.zip", **{"a.zip": outer})
    with pytest.raises(ChartError, match=r"holds no chart but 1 archives, such as 'a\.zip'\. Unpack it"):
        read_chart(deep)


@pytest.mark.parametrize("name", ["c.tar.gz", "c.tgz", "c.7z", "c.rar", "c.shp.gz"])
def test_other_archives_are_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(ChartError, match=r"archive, which floemap does not open\. Unpack it"):
        read_chart(tmp_path / name)


# --- names


@pytest.mark.parametrize(
    "suffixes", [[".SHP", ".SHX", ".DBF", ".PRJ"], [".Shp", ".shx", ".DBF", ".Prj"], [".shp", ".SHX", ".dbf", ".PRJ"]]
)
def test_suffixes_in_any_case(tmp_path: Path, suffixes: list[str]) -> None:
    chart = write_chart(tmp_path / "plain" / "c.shp")
    for suffix in suffixes:
        shutil.copy(chart.with_suffix(suffix.lower()), tmp_path / f"c{suffix}")
    assert read_chart(tmp_path / f"c{suffixes[0]}").codes("sa").tolist() == read_chart(chart).codes("sa").tolist()


@pytest.mark.parametrize("suffix", [".GPKG", ".GeoJSON", ".Json", ".FGB"])
def test_other_suffixes_in_any_case(tmp_path: Path, suffix: str) -> None:
    kind = ".geojson" if suffix == ".Json" else suffix.lower()
    chart = write_chart(tmp_path / f"c{kind}", **dict[str, Any]({"SPATIAL_INDEX": "NO"} if kind == ".fgb" else {}))
    shutil.move(chart, tmp_path / f"d{suffix}")
    assert len(read_chart(tmp_path / f"d{suffix}")) == 4


def test_of_two_tables_the_one_of_the_same_name_is_taken(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.shp")
    shutil.copy(write_chart(tmp_path / "other" / "c.shp", FOUR[:2]).with_suffix(".dbf"), tmp_path / "C.DBF")
    assert len(read_chart(chart)) == 4


@pytest.mark.parametrize(
    "folder", ["with space", "a!b", "é", "http:", "x.zip", "{a}", 'q"q', "line\nbreak", "-x", "%41?b#c"]
)
@pytest.mark.parametrize("name", ["c.shp", "c.gpkg", "c.zip"])
def test_folders_of_any_name(tmp_path: Path, folder: str, name: str) -> None:
    write_chart(tmp_path / "plain" / name)  # not every writer takes such names
    (tmp_path / "plain").rename(tmp_path / folder)
    assert len(read_chart(tmp_path / folder / name)) == 4


def test_a_folder_of_a_result_leads_to_the_chart_in_it(tmp_path: Path) -> None:
    for folder, name in (("draft", "chart.gpkg"), ("dmi_East_pl_a", "dmi_East_pl_a.gpkg")):
        write_chart(tmp_path / folder / name)
        with pytest.raises(ChartError, match=rf"{folder}: is a folder, not a chart. Give the chart in it, {name}"):
            read_chart(tmp_path / folder)


# --- an edit that is open


def edited(chart: Path, mode: str = "WAL") -> sqlite3.Connection:
    """Change the first polygon of a GeoPackage as a program does that keeps it open."""
    db = sqlite3.connect(chart)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute(f"PRAGMA journal_mode = {mode}")
    db.execute(f"UPDATE {chart.stem} SET SA = '81' WHERE fid = 1")
    return db


def test_an_edit_counts_while_it_is_open(tmp_path: Path, like: Path) -> None:
    chart = write_chart(tmp_path / "charts" / "draft.gpkg")
    first = label_chart(chart, like, tmp_path / "out")
    assert classes(first.folder)[0] == 4
    with closing(edited(chart)) as db:
        db.commit()
        assert (chart.with_name("draft.gpkg-wal")).stat().st_size > 0, "it is not in the database yet"
        before = {p.name: p.read_bytes() for p in chart.parent.iterdir()}
        again = label_chart(chart, like, tmp_path / "out")
        assert not again.skipped
        assert classes(again.folder)[0] == 0
        assert set(find_source(chart).files) == {chart, chart.with_name("draft.gpkg-wal")}
        assert label_chart(chart, like, tmp_path / "out").skipped
        assert {p.name: p.read_bytes() for p in chart.parent.iterdir()} == before, "nothing of the user's is touched"
    assert classes(label_chart(chart, like, tmp_path / "out").folder)[0] == 0, "nor when it is closed"


def test_an_edit_counts_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "charts" / "draft.gpkg")
    with closing(edited(chart)) as db:
        db.commit()
        copied = shutil.copytree(chart.parent, tmp_path / "copy")
    (copied / "draft.gpkg-shm").unlink()
    for path in (copied, *copied.iterdir()):
        path.chmod(0o555)
    assert read_chart(copied / "draft.gpkg").codes("sa")[0] == 81
    packed = zipped(tmp_path / "d.zip", **{p.name: p for p in sorted(copied.iterdir())})
    assert read_chart(packed).codes("sa")[0] == 81


def test_an_edit_in_the_middle_is_refused(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "draft.gpkg")
    with closing(edited(chart, "DELETE")):
        journal = tmp_path / "draft.gpkg-journal"
        assert journal.read_bytes()[:1] != b""
        # Until it is written, the head of a journal is empty; a program that was killed leaves it with one.
        journal.write_bytes(bytes.fromhex("d9d505f920a163d7") + journal.read_bytes()[8:])
        with pytest.raises(ChartError, match="has an unfinished change"):
            read_chart(chart)
        journal.write_bytes(b"\0" * 512)  # so SQLite leaves it where it keeps the file for the next change
        assert len(read_chart(chart)) == 4


# --- identity


@pytest.mark.parametrize("suffix", [".dbf", ".shp", ".shx", ".prj", ".cpg"])
def test_every_part_belongs_to_a_charts_identity(tmp_path: Path, like: Path, suffix: str) -> None:
    chart = write_chart(tmp_path / "c.shp")
    label_chart(chart, like, tmp_path / "out")
    mask = describe_land(chart)
    part = chart.with_suffix(suffix)
    part.write_bytes(part.read_bytes() + b" ")
    assert not label_chart(chart, like, tmp_path / "out").skipped
    assert describe_land(chart) != mask


def test_what_does_not_belong_to_it_is_not_read(tmp_path: Path, like: Path) -> None:
    """An old index beside a shapefile hides polygons from GDAL: it is not shown to it."""
    chart = write_chart(tmp_path / "c.shp", [ice() | {"POLY_TYPE": "L"}] * 4)
    part = grid(64, 64)
    assert land_on(chart, part).all()
    first = label_chart(write_chart(tmp_path / "d.shp"), like, tmp_path / "out")
    elsewhere = write_chart(tmp_path / "e" / "c.shp", geometries=squares(4, left=2e6), SPATIAL_INDEX="YES")
    for name in ("c.qix", "d.qix"):
        shutil.copy(elsewhere.with_suffix(".qix"), tmp_path / name)
    (tmp_path / "d.shp.xml").write_text("<metadata/>")
    assert len(pyogrio.read_dataframe(chart, bbox=tuple(part.boundingbox.bbox))) == 0, "what GDAL finds"
    assert land_on(chart, part).all()
    assert label_chart(tmp_path / "d.shp", like, tmp_path / "out").skipped
    assert classes(first.folder) == [4, 3, 0, 255]


def test_a_link_stands_for_the_file_that_it_leads_to(tmp_path: Path, like: Path) -> None:
    real = write_chart(tmp_path / "real" / "c.shp")
    for suffix in PARTS:
        (tmp_path / f"c{suffix}").symlink_to(real.with_suffix(suffix))
    assert classes(label_chart(tmp_path / "c.shp", like, tmp_path / "out").folder)[0] == 4
    write_chart(real, [ice(SA="81"), *FOUR[1:]])
    again = label_chart(tmp_path / "c.shp", like, tmp_path / "out")
    assert not again.skipped
    assert classes(again.folder)[0] == 0
