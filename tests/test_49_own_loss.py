"""A loss of a user's own, named by import string: the one of docs/tutorial-research.md, from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result
from workshop import Inputs, study_file

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ConfigError
from floemap.learning import losses
from floemap.learning.losses import Loss, make_loss
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE
from floemap.report.run_folder import FROM_SHARES, Cell, Contender
from floemap.results.run_paths import CellPaths
from floemap.study.cells import plan
from floemap.study.settings import Study

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial-research.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.S | re.M)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the page's my_losses.py in it."""
    (script,) = [b for b in blocks("python") if "(Loss)" in b]
    (tmp_path / "my_losses.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_losses", None)


def test_settings_can_name_it(here: Path) -> None:
    loss = make_loss(LossSettings(name="my_losses:Overlap"), 3)
    assert isinstance(loss, Loss)
    labels = torch.tensor([[[0, 1], [2, IGNORE]]], dtype=torch.uint8)
    sure = 50 * torch.nn.functional.one_hot(labels.long().clamp(max=2), 3).movedim(-1, 1).float()
    assert loss(sure, labels).item() == pytest.approx(0, abs=1e-6)
    assert loss(-sure, labels).item() > 0.5
    assert loss(sure, torch.full_like(labels, IGNORE)).item() == 0
    both = loss.sums(sure, labels) + loss.sums(-sure, labels)
    batch = loss(torch.cat([sure, -sure]), torch.cat([labels, labels]))
    assert loss.value(both).item() == pytest.approx(batch.item())


def test_it_is_the_tversky_loss_as_the_page_says(here: Path) -> None:
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 4, 8, 8, generator=g), torch.randint(0, 4, (2, 8, 8), generator=g).byte()
    own = make_loss(LossSettings(name="my_losses:Overlap"), 4)
    torch.testing.assert_close(own(logits, labels), make_loss(LossSettings(name="tversky"), 4)(logits, labels))


def test_a_loss_that_declares_that_it_reads_polygons_learns_from_partial_concentrations(here: Path) -> None:
    """As the plan of a comparison records it, and its report reads it; older records name the loss only."""
    (here / "of_theirs.py").write_text(
        "from floemap.learning.losses.base import PolygonLoss\nclass Shares(PolygonLoss):\n"
        "    def _polygon_sums(self, logits, labels, polygons): return polygons.shares.sum()[None]\n"
    )
    wanted = {"my_losses:Overlap": False, "of_theirs:Shares": True, "fine": True, "dice": False, "region": True}
    own = {"compare": {"losses": list(wanted), "repeats": 1, "variants": {"fine": {"loss.name": "of_theirs:Shares"}}}}
    cells = plan(Study.checked(**own), ["a"])
    assert {c.loss: c.about()["reads_shares"] for c in cells} == wanted
    sys.modules.pop("of_theirs")
    for c in cells:
        record = c.about() | {"configuration": c.study.model_dump(mode="json")}
        read = [
            Contender("k", "k", (Cell(c.name, c.loss, 0, {}, CellPaths(here), r, {}, (), ()),)).reads_shares
            for r in (record, {k: v for k, v in record.items() if k != "reads_shares"})
        ]
        assert read == [wanted[c.loss], c.loss == "region"]
    assert {name for name, cls in losses.LOSSES.items() if cls.reads_polygons} == FROM_SHARES


def test_pythons_path_is_as_before(here: Path) -> None:
    before = list(sys.path)
    make_loss(LossSettings(name="my_losses:Overlap"), 3)
    with pytest.raises(ConfigError):
        make_loss(LossSettings(name="not_there:Overlap"), 3)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("my_losses:Nothing", "", r"Nothing in my_losses does not exist.*Overlap"),
        ("my_losses:torch", "", r"torch in my_losses is not a Loss"),
        ("my_losses:Loss", "", r"Loss in my_losses does not define _sums, value"),
        ("not_there:Loss", "", r"there is no module not_there.*folder of not_there\.py"),
        ("my_losses.more:Loss", "", r"there is no module my_losses\.more"),
        ("broken:Mine", "import not_there_either", r"broken cannot be imported: No module named 'not_there_either'"),
        ("broken:Mine", "1 / 0", r"broken cannot be imported: ZeroDivisionError"),
        ("broken:Mine", "import sys; sys.exit(3)", r"broken cannot be imported: SystemExit"),
        ("broken:Mine", "def", r"broken cannot be imported: SyntaxError"),
        ("broken:Mine", "class Mine: pass", r"Mine in broken is not a Loss"),
        ("my_losses:", "", "not an import string"),
        (":Overlap", "", "not an import string"),
        ("../my_losses:Overlap", "", "not an import string"),
        ("my_losses:Overlap()", "", "not an import string"),
    ],
)
def test_what_cannot_be_imported_says_why(here: Path, name: str, text: str, words: str) -> None:
    (here / "broken.py").write_text(text)
    try:
        with pytest.raises(ConfigError) as e:
            make_loss(LossSettings(name=name), 3)
    finally:
        sys.modules.pop("broken", None)
    assert re.search(words, f"{e.value} {e.value.hint}")


def test_its_options_are_checked(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"'miss' is unknown \(did you mean 'misses'\?\)"):
        make_loss(LossSettings(name="my_losses:Overlap", options={"miss": 1}), 3)


# The comparison of the page


@pytest.fixture
def study(here: Path, workshop: Inputs) -> Path:
    """The page's comparison with its own variants, small, on two prepared scenes."""
    (variants,) = [b for b in blocks("toml") if "my_losses" in b]
    few = variants.replace("[compare]\n", "[compare]\nrepeats = 1\n").replace('"cross_entropy", "macro_dice", ', "")
    return study_file(workshop, here, few)


def floemap(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


def test_the_pages_comparison_runs_in_worker_processes(study: Path, undrawn: None) -> None:
    done = floemap("compare", study, "--out", "out", "--jobs", "2")
    assert done.exit_code == 0, done.output
    cells = sorted(p.name for p in Path("out/cells").iterdir() if p.is_dir())
    assert cells == ["overlap_9_r0", "overlap_r0"]  # of the page's four, those that are not floemap's
    trained = [json.loads((Path("out/cells") / c / "model/training.json").read_text()) for c in cells]
    assert [t["configuration"]["loss"]["options"] for t in trained] == [{"misses": 0.9}, {}]
    assert all(len(t["inputs"]["loss"]) == 64 for t in trained)
    # A changed file is another loss: nothing is mixed with what it replaces.
    script = Path("my_losses.py")
    script.write_text(script.read_text().replace("0.7", "0.6"))
    sys.modules.pop("my_losses", None)
    again = floemap("train", study, "--loss", "overlap", "--out", "out/cells/overlap_r0")
    assert again.exit_code == 1
    assert (
        re.search(r"other loss \(SHA-256 \w{8}, now SHA-256 \w{8}\)", " ".join(again.output.split()))
        and "overwrite" in again.output
    )


def test_an_unknown_option_is_reported_before_any_work(study: Path) -> None:
    study.write_text(study.read_text().replace("loss.options.misses", "loss.options.mises"))
    done = floemap("compare", study, "--out", "out")
    assert done.exit_code == 1
    assert "did you mean 'misses'?" in " ".join(done.output.split())
    assert not Path("out/cells").exists()


# Variants


def test_variants_change_what_they_name_and_options_stay_with_their_loss() -> None:
    study = Study.checked(
        loss={"name": "focal", "options": {"gamma": 3.0}},
        compare={
            "losses": ["cross_entropy", "focal", "sharp", "slow"],
            "variants": {
                "sharp": {"loss.name": "tversky", "loss.options.alpha": 0.1},
                "slow": {"training.learning_rate": 1e-6},
            },
            "repeats": 1,
        },
    )
    made = {c.loss: c.study for c in plan(study, [])}
    assert {k: (s.loss.name, s.loss.options) for k, s in made.items()} == {
        "cross_entropy": ("cross_entropy", {}),
        "focal": ("focal", {"gamma": 3.0}),
        "sharp": ("tversky", {"alpha": 0.1}),
        "slow": ("focal", {"gamma": 3.0}),
    }
    assert [made[k].training.learning_rate for k in ("sharp", "slow")] == [1e-5, 1e-6]


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ({"focal": {"loss.name": "dice"}}, "variant focal of the comparison has the name of a loss"),
        ({"a b": {"loss.name": "dice"}}, "not a valid name"),
        ({"mine": {"split.kind": "lists"}}, "split.kind is not a setting of model, loss, tasks, crops, training"),
        ({"mine": {"training.seed": 3}}, "already varied by repeats"),
        ({"mine": {"training.batches": 3}}, "there is no setting 'training.batches'"),
        ({"mine": {"loss.options": 3}}, "loss.options"),
    ],
)
def test_variants_that_are_refused(variants: dict[str, dict[str, object]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(Study.checked(compare={"losses": list(variants), "variants": variants}), [])


def test_the_package_needs_no_torch_before_a_loss_is_used() -> None:
    script = (
        "import sys, floemap.learning.losses as losses; print('torch' in sys.modules); losses.Loss; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError):
        _ = losses.no_such_name
