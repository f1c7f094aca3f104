"""A random sample of single changes to the core, each judged by the tests: cosmic-ray makes them.

    make mutants                                          # 200 of them, one after another
    build/mutants/venv/bin/python benchmarks/mutation/sample.py FOLDER --count 50 --only sentinel1 --seed 2

It runs in an environment with cosmic-ray; --python names the one with floemap's tests. The committed state is cloned
into FOLDER/tree and changed there. A place in the source is drawn first and then one of its changes, so that an
operator with many replacements counts once. Thrown away are changes that do not compile, those of annotations only,
and those between operators that the type of the operands excludes (`+` for `|`), which any call kills.
FOLDER/session.sqlite is cosmic-ray's; the same call resumes it.

The printed table has the survivors. Whether one of them changes a result is for a reader to judge.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import random
import re
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkItem
from judge import tests_of

HERE = Path(__file__).resolve().parent
_FAMILIES = ("Add|Sub|Mul|Div|FloorDiv|Mod|Pow", "BitOr|BitAnd|BitXor", "Eq|NotEq|Lt|LtE|Gt|GtE", "Is|IsNot")
_USED = re.compile(
    "|".join(rf"core/Replace(Binary|Comparison)Operator_({f})_({f})$" for f in _FAMILIES)
    + "|core/(NumberReplacer|AddNot|ZeroIterationForLoop|Replace(True|False|And|Or|Break|Continue)With.*)$"
    + "|core/ReplaceUnaryOperator_(Delete_.*|USub_UAdd)$"
)
#: Nodes of the syntax tree that no operator changes; they are many.
_NEVER = ("name", "string", "newline", "indent", "dedent")
_TIMEOUT_S = 240.0
_CONFIG = f"""[cosmic-ray]
module-path = []
timeout = {_TIMEOUT_S}
excluded-modules = []
test-command = "{{python}} benchmarks/mutation/judge.py ask {{address}}"

[cosmic-ray.distributor]
name = "local"
"""


def main() -> None:
    """Draw, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose path begins so")
    parser.add_argument("--trust", action="store_true", help="do not run the tests on the intact source first")
    parser.add_argument("--python", default=sys.executable, help="the environment of the tests")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    tree, session = folder / "tree", folder / "session.sqlite"
    python = str(Path(asked.python).absolute())
    if not session.exists():
        folder.mkdir(parents=True, exist_ok=True)
        root = HERE.parents[1]
        subprocess.run(["git", "clone", "--quiet", str(root), str(tree)], check=True)
        with contextlib.chdir(tree):
            drawn = draw(modules(asked.only), asked.count, asked.seed)
            with use_db(session) as db:
                db.add_work_items(drawn)
    with contextlib.chdir(tree), server(python, folder / "socket", tree) as ask:
        with use_db(session) as db:
            files = {f for item in db.work_items for f in tests_of(str(item.mutations[0].module_path))}
        if not asked.trust:
            subprocess.run([*ask, *sorted(files)], check=True)
        config = folder / "cosmic-ray.toml"
        config.write_text(_CONFIG.format(python=python, address=folder / "socket"), encoding="utf-8")
        tool = Path(sys.executable).with_name("cosmic-ray")
        subprocess.run([tool, "exec", str(config), str(session)], check=True)
    with use_db(session) as db:
        table(db)


def modules(only: str) -> list[Path]:
    """Return the paths of the core's modules that begin with `only`."""
    named = tomllib.loads((HERE / "core.toml").read_text(encoding="utf-8"))["modules"]
    return [Path("src/floemap") / m for m in sorted(named) if m.startswith(only)]


def draw(paths: list[Path], count: int, seed: int) -> list[WorkItem]:
    """Return one change at each of `count` places, all places being equally likely."""
    places = defaultdict(list)
    for path in paths:
        for mutation in _changes(path):
            places[path, mutation.start_pos, mutation.end_pos].append(mutation)
    print(f"{len(paths)} modules, {len(places)} places, {sum(map(len, places.values()))} changes", flush=True)
    rng = random.Random(seed)
    order = sorted(places)
    rng.shuffle(order)
    drawn: list[WorkItem] = []
    for place in order:
        chosen = rng.choice(places[place])
        if len(drawn) < count and _changes_something(chosen):
            drawn.append(WorkItem.single(f"{len(drawn):04d}", chosen))
    return drawn


def _changes(path: Path) -> Iterator[MutationSpec]:
    """Yield all that the operators used would change in a module, as `cosmic-ray init` does."""
    nodes = [node for node in ast_nodes(get_ast_from_path(path)) if node.type not in _NEVER]
    for name in sorted(filter(_USED.match, operator_names())):
        operator = get_operator(name)()
        positions = (p for node in nodes for p in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            yield MutationSpec(path, name, occurrence, start, end)


def _changes_something(mutation: MutationSpec) -> bool:
    before = mutation.module_path.read_text(encoding="utf-8")
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    after = mutate_code(before, operator, mutation.occurrence)
    with contextlib.suppress(SyntaxError):
        return _bare(before) != _bare(after)
    return False


def _bare(source: str) -> str:
    """The syntax tree without annotations."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


@contextlib.contextmanager
def server(python: str, address: Path, tree: Path):
    """Keep a judging process while tests are asked for; give the command that asks it."""
    address.unlink(missing_ok=True)
    environment = {
        "PYTHONPATH": f"{tree}/src:{tree}/benchmarks",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    judge = [python, "benchmarks/mutation/judge.py"]
    process = subprocess.Popen([*judge, "serve", str(address)], env=os.environ | environment)
    try:
        while not address.exists():
            if process.poll() is not None:
                raise SystemExit("the judging process ended")
            time.sleep(0.2)
        yield [*judge, "ask", str(address)]
    finally:
        process.terminate()
        process.wait()


def table(db: WorkDB) -> None:
    """Print the figures and the survivors."""
    done = db.completed_work_items
    survived = [(i, r) for i, r in done if r.test_outcome == TestOutcome.SURVIVED]
    odd = [r for _, r in done if r.test_outcome not in (TestOutcome.SURVIVED, TestOutcome.KILLED)]
    print(f"{len(done)} of {db.num_work_items} judged: {len(done) - len(survived)} killed, {len(survived)} survived")
    for result in odd:
        print("not judged:", result.output)
    for item, result in sorted(
        survived, key=lambda pair: (pair[0].mutations[0].module_path, pair[0].mutations[0].start_pos)
    ):
        m = item.mutations[0]
        print(f"\n{m.module_path}:{m.start_pos[0]} {m.operator_name}")
        print("\n".join(line for line in (result.diff or "").splitlines() if re.match(r"[-+](?![-+])", line)))


if __name__ == "__main__":
    main()
