"""Damaged forms of a file of any kind that is read here, drawn at random: by its bytes, and by what it holds.

Bytes alone seldom get past the first check of a format. So files of a known structure are taken apart, something in
them is replaced by what does not belong there, and they are put together again.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from damage import damaged, mutate, mutations
from lxml import etree

#: Stands for what JSON's and TOML's writers do not write: replaced in the text.
_RAW = {
    "@deep@": "[" * 20_000 + "]" * 20_000,
    "@table@": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "@digits@": "9" * 5000,
    "@infinite@": "1e400",
    "@nan@": "NaN",
    "@half@": '"\\ud800"',
}
_ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, -(2**63), 10**400, 0.5, 1e308, -0.0, "", " ", "0", "x" * 5000, "²", "NaN"),
    *(
        "../../x",
        "/etc/passwd",
        "\0",
        "\x1b[2J\n",
        "\u202e",
        "=1+1",
        "https://[",
        "EPSG:0",
        "9999-12-31T23:59:59+14:00",
    ),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], ["a"], {"a": 1}, *_RAW),
]


def mutant(name: str, content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return one damaged form of a file, and what was done; `name` says by its suffix what it is."""
    suffix = "." + name.rsplit(".", 1)[-1].lower()
    for _ in range(100):
        how = rng.choice([_OF.get(suffix, _bytes), _OF.get(suffix, _bytes), _bytes])
        with suppress(Exception):  # not every change can be made to everything
            what, changed = how(content, rng)
            if changed != content:
                return what, changed
    return "emptied", b""


def _bytes(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    return rng.choice(list(damaged(content, rng, rounds=3)))


def _head(length: int) -> Callable[[bytes, random.Random], tuple[str, bytes]]:
    """Change single bytes where a format has its structure."""

    def change(content: bytes, rng: random.Random) -> tuple[str, bytes]:
        return _at(content, rng, range(min(length, len(content))))

    return change


def _at(content: bytes, rng: random.Random, places: range) -> tuple[str, bytes]:
    changed = bytearray(content)
    chosen = [rng.choice(places) for _ in range(rng.choice([1, 1, 2, 4]))]
    for place in chosen:
        changed[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return f"bytes {chosen} are {[changed[p] for p in chosen]}", bytes(changed)


def _tree(content: Any, rng: random.Random) -> tuple[str, Any]:
    """Change one place of a tree of dicts and lists; the tree is changed in place, too."""
    places: list[tuple[Any, Any, str]] = []

    def walk(node: Any, path: str) -> None:
        inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inside:
            places.append((node, key, f"{path}.{key}"))
            walk(value, f"{path}.{key}")

    walk(content, "")
    if not places or rng.random() < 0.02:
        return "all of it", rng.choice(_ODD)
    node, key, path = rng.choice(places)
    do = rng.choice(["odd", "odd", "odd", "gone", "text", "list", "key"])
    if do == "odd":
        node[key] = rng.choice(_ODD)
    elif do == "gone":
        del node[key]
    elif do == "text":
        node[key] = str(node[key])
    elif do == "list":
        node[key] = [node[key]] * rng.choice([1, 2, 100])
    elif isinstance(node, dict):
        node[rng.choice(["", "x", "../x", "\x1b[2J", str(key).upper()])] = node.pop(key)
    else:
        node.insert(key, rng.choice(_ODD))
    return f"{path}: {do}", content


def _text(content: Any) -> bytes:
    text = json.dumps(content)
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


def _json(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    what, tree = _tree(json.loads(content), rng)
    return what, _text(tree)


def _json_lines(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    lines = content.splitlines()
    i = rng.randrange(len(lines))
    what, lines[i] = _json(lines[i], rng)
    return f"line {i}{what}", b"\n".join(lines) + b"\n"


def _csv(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change one cell, or drop or repeat a row or a column."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    i, how = (
        rng.randrange(len(rows)),
        rng.choice(["cell", "cell", "cell", "row dropped", "row twice", "column dropped"]),
    )
    j = rng.randrange(len(rows[i]))
    if how == "cell":
        rows[i][j] = str(rng.choice([*_ODD, rng.choice(rng.choice(rows))]))
    elif how == "column dropped":
        rows = [row[:j] + row[j + 1 :] for row in rows]
    else:
        rows[i : i + 1] = [] if how == "row dropped" else [rows[i]] * 2
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return f"row {i}, column {j}: {how}", text.getvalue().encode()


_TOML = [
    *(
        '""',
        "0",
        "-1",
        "1e400",
        "nan",
        "inf",
        "true",
        "[]",
        "{}",
        "[[]]",
        '["a", 1]',
        "1979-05-27",
        '"../../x"',
        "@digits@",
    ),
    *('"\\u001b[2J"', '"\\u0000"', "0x7fffffffffffffff", "@deep@", '"EPSG:0"', "''' '''", "1e-320", '"x"', "2.5"),
]


def _toml(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    lines = content.decode().split("\n")
    i = rng.choice([i for i, line in enumerate(lines) if "=" in line or line.startswith("[")])
    do = rng.choice(["value", "value", "value", "gone", "twice", "key", "moved"])
    if do == "value" and "=" in lines[i]:
        lines[i] = f"{lines[i].partition('=')[0]}= {rng.choice(_TOML)}"
    elif do == "gone":
        del lines[i]
    elif do == "twice":
        lines.insert(i, lines[i])
    elif do == "moved":
        lines.insert(rng.randrange(len(lines)), lines.pop(i))
    else:
        lines[i] = re.sub(r"\w+", rng.choice(["x", "a.b.c", '"\\u001b"', "a." * 500 + "a"]), lines[i], count=1)
    text = "\n".join(lines)
    for mark, raw in _RAW.items():
        text = text.replace(mark, raw)
    return f"line {i}: {do}", text.encode()


def _xml(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    root = etree.fromstring(content)
    element = rng.choice([e for e in root.iter() if isinstance(e.tag, str) and e is not root])
    what = rng.choice(mutations(element))
    path = root.getroottree().getpath(element)
    mutate(element, what)
    return f"{path} {what}", etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _zip(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change single bytes of a zip's directory and of its members' heads."""
    directory = content.index(b"PK\x01\x02")
    heads = [range(m.start(), m.start() + 30) for m in re.finditer(rb"PK\x03\x04", content[:directory])]
    end = range(max(directory, len(content) - 22), len(content))
    return _at(content, rng, rng.choice([range(directory, len(content)), end, rng.choice(heads)]))


def _tiff(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change single bytes of a TIFF's head and first directory."""
    order = "little" if content[:2] == b"II" else "big"
    big = content[2] == 43 or content[3] == 43
    at = int.from_bytes(content[8:16] if big else content[4:8], order)  # type: ignore[arg-type]
    return _at(content, rng, rng.choice([range(16), range(at, min(at + 400, len(content)))]))


def _safetensors(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change the header, or the description in it."""
    (length,) = struct.unpack_from("<Q", content)
    head, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    said = head.get("__metadata__", {})
    if said and rng.random() < 0.7:
        key = rng.choice(list(said))
        try:
            what, tree = _tree(json.loads(said[key]), rng)
            said[key] = _text(tree).decode()
        except ValueError:
            what, said[key] = "no JSON", str(rng.choice(_ODD))
    else:
        what, head = _tree(head, rng)
    text = _text(head)
    return what, struct.pack("<Q", len(text)) + text + rest


def _torch(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change one place of what a file of torch's holds."""
    import torch

    what, tree = _tree(torch.load(io.BytesIO(content), weights_only=True), rng)
    held = io.BytesIO()
    torch.save(tree, held)
    return what, held.getvalue()


def _npz(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Leave an array out, or put another in its place."""
    import numpy as np

    with np.load(io.BytesIO(content)) as stored:
        arrays = {k: stored[k] for k in stored.files}
    key = rng.choice(list(arrays))
    others = [
        np.zeros(0),
        np.zeros((3, 3)),
        np.array("x"),
        arrays[key].astype(np.float16),
        arrays[key][..., None],
        None,
    ]
    chosen = rng.choice(others)
    del arrays[key]
    if chosen is not None:
        arrays[key] = chosen
    held = io.BytesIO()
    np.savez(held, **arrays)
    return f"{key} is another", held.getvalue()


def _sqlite(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change a cell, or take away a row, a table or a column."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA writable_schema = 1")
            tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            table = rng.choice([t for t in tables if not t.startswith(("rtree_", "sqlite_"))])
            columns = [r[1] for r in db.execute(f'PRAGMA table_info("{table}")')]
            column = rng.choice(columns)
            value = rng.choice([x for x in _ODD if isinstance(x, str | float) or x is None] + [b"GP\0\1", b""])
            some = f'rowid IN (SELECT rowid FROM "{table}" LIMIT 1)'
            do = rng.choice(
                [f'UPDATE "{table}" SET "{column}" = ?'] * 6
                + [f'DELETE FROM "{table}"', f'DROP TABLE "{table}"', f'ALTER TABLE "{table}" DROP COLUMN "{column}"']
                + ["CREATE VIEW v AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c"]
            )
            do += f" WHERE {some}" if do.startswith(("UPDATE", "DELETE")) else ""
            db.execute(do, (value,) if "?" in do else ())
            db.commit()
        return do, path.read_bytes()


def _netcdf(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change a variable of NetCDF-4: its name, place, shape, type, values, attributes, or how it is stored."""
    with tempfile.TemporaryDirectory(prefix="floemap-reliability-") as folder:
        path = Path(folder) / "x.nc"
        path.write_bytes(content)
        with h5py.File(path, "r+") as f:
            name = rng.choice(sorted(f))
            how = rng.choice([*_NETCDF])
            what = _NETCDF[how](f, name, rng)
        return f"{name}: {how} {what}"[:150], path.read_bytes()


def _stored_anew(f: h5py.File, name: str, values: Any, **options: Any) -> None:
    attributes = dict(f[name].attrs)
    del f[name]
    f.create_dataset(name, data=values, **options)
    f[name].attrs.update({k: v for k, v in attributes.items() if k not in _OF_NETCDF})


def _values(f: h5py.File, name: str, rng: random.Random) -> str:
    """Put an odd value into a part of a variable."""
    values = f[name][()]
    if f[name].dtype.kind not in "fiu":
        odd: Any = rng.choice(["", "x" * 5000, ";" * 14, "1;" * 15, "poly_id;CT", "-1;91", "\0", "²;" * 15])
        if values.size:
            row = rng.randrange(len(values))
            kept = values[row].decode().split(";")
            kept[rng.randrange(len(kept))] = rng.choice(["", "-", "999", "1e9", "-9", "98", "77", "²", "NaN"])
            values[row] = rng.choice([odd, ";".join(kept)])
        f[name][...] = values
        return "text"
    odd = rng.choice([np.nan, np.inf, -np.inf, 0, -1, 255, 77, 4321, 1e30, 91, 181, 2**31])
    with np.errstate(invalid="ignore", over="ignore"):
        new = np.full(values.shape, odd, np.float64).astype(values.dtype)
    part = tuple(slice(a := rng.randrange(n), rng.choice([a + 1, n])) for n in values.shape)
    if rng.random() < 0.3:
        part = (slice(None),) * values.ndim
    values[part] = new[part]
    f[name][...] = values
    return f"{odd} at {part}"


def _shape(f: h5py.File, name: str, rng: random.Random) -> str:
    values = f[name][()]
    ways: list[Callable[[Any], Any]] = [
        lambda v: v[:-1], lambda v: v[0], lambda v: v[None], lambda v: np.repeat(v, 2, axis=0), lambda v: v[:0],
        np.transpose, np.ravel, lambda v: v[..., :1],
    ]  # fmt: skip
    which = rng.randrange(len(ways))
    _stored_anew(f, name, ways[which](values))
    return str(which)


def _type(f: h5py.File, name: str, rng: random.Random) -> str:
    kind = rng.choice(["S3", "u1", "i8", "f2", "f8", "c8", "?", ">f4"])
    with np.errstate(all="ignore"):
        _stored_anew(f, name, np.zeros(f[name].shape) if kind == "S3" else f[name][()].astype(kind))
    return kind


def _declared(f: h5py.File, name: str, rng: random.Random) -> str:
    """Declare dimensions that nothing is stored of; all of the variables of a shape, or one."""
    size = rng.choice([2**31, 100_000, 39_999])
    shape = f[name].shape
    alike = [n for n in f if f[n].shape == shape and len(shape) == 2 and f[n].dtype.kind in "fiu"]
    for one in alike if rng.random() < 0.7 else [name]:
        kind, attributes = f[one].dtype, {k: v for k, v in f[one].attrs.items() if k not in _OF_NETCDF}
        del f[one]
        f.create_dataset(one, (size,) * len(shape), kind, chunks=(64,) * len(shape))
        f[one].attrs.update(attributes)
    return str(size)


def _chunk(f: h5py.File, name: str, rng: random.Random) -> str:
    """Store it in one chunk, much larger than it is."""
    side = rng.choice([64, 8192, 16384])
    shape = f[name].shape
    values = f[name][()]
    attributes = {k: v for k, v in f[name].attrs.items() if k not in _OF_NETCDF}
    del f[name]
    options = {"chunks": (side,) * len(shape), "maxshape": (None,) * len(shape), "compression": "gzip"}
    f.create_dataset(name, data=values if side < 100 else None, shape=shape, dtype=values.dtype, **options)
    f[name].attrs.update(attributes)
    return str(side)


def _attribute(f: h5py.File, name: str, rng: random.Random) -> str:
    thing = rng.choice([f, f[name]])
    if not (names := [k for k in thing.attrs if k not in _OF_NETCDF]):
        raise ValueError("has no attribute")
    which = rng.choice(names)
    odd = rng.choice([0, -1, np.nan, np.inf, 2**62, "", "x" * 3000, "../../x", "\x1b[2J", [1.0, 2.0], b"\xff\xfe"])
    thing.attrs[which] = odd
    return f"{which} = {str(odd)[:30]!r}"


def _linked_away(f: h5py.File, name: str, rng: random.Random) -> str:
    target = rng.choice([h5py.SoftLink("/nothing"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("other.nc", name)])
    del f[name]
    f[name] = target
    return type(target).__name__


def _moved(f: h5py.File, name: str, rng: random.Random) -> str:
    other = rng.choice([f"{name}_", name.upper(), "a/b", rng.choice(sorted(f)) + "2"])
    f.move(name, other)
    return other


def _gone(f: h5py.File, name: str, rng: random.Random) -> str:
    del f[name]
    if rng.random() < 0.3:
        f.create_group(name)
    return ""


_NETCDF: dict[str, Callable[[h5py.File, str, random.Random], str]] = {
    "values": _values, "more values": _values, "shape": _shape, "type": _type, "declared": _declared, "chunk": _chunk,
    "attribute": _attribute, "link": _linked_away, "moved": _moved, "gone": _gone,
}  # fmt: skip
#: Attributes by which NetCDF-4 ties variables to dimensions.
_OF_NETCDF = {"DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates"}

_OF: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {
    ".csv": _csv,
    ".json": _json,
    ".geojson": _json,
    ".jsonl": _json_lines,
    ".toml": _toml,
    ".xml": _xml,
    ".safe": _xml,
    ".zip": _zip,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".safetensors": _safetensors,
    ".pt": _torch,
    ".npz": _npz,
    ".gpkg": _sqlite,
    ".nc": _netcdf,
    ".shp": _head(200),
    ".shx": _head(120),
    ".dbf": _head(400),
    ".fgb": _head(400),
}
