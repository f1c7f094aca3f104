"""Loggers get the numbers of steps and epochs, and never end a training."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import ABOUT, scene, tiny_settings

from floemap.errors import ConfigError
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.settings import TrainingSettings
from floemap.learning.training.loggers import LOGGERS, MetricLogger
from floemap.learning.training.loop import Trained, train
from floemap.legend import SIX_CLASSES

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def go(*loggers: str, **settings: Any) -> Trained:
        usual: dict[str, Any] = {"max_epochs": 2, "loggers": loggers}
        return train(
            [scene("a", 1), scene("b", 2)],
            [scene("v", 3, (61, 70))],
            tiny_settings(**(usual | settings)),
            SIX_CLASSES,
            tmp_path / "run",
            about=ABOUT,
            device="cpu",
        )

    return go


class Collected(MetricLogger):
    """A logger of one's own."""

    calls: list[tuple[str, Any]] = []  # noqa: RUF012 -- the test empties it

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        super().__init__(folder, about, first_epoch)
        self.calls.append(("begin", (folder.name, about["configuration"]["training"]["batch"], first_epoch)))

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.calls.append(("step", (step, dict(metrics))))

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.calls.append(("epoch", (epoch, dict(metrics))))

    def close(self) -> None:
        self.calls.append(("close", None))


class Failing(Collected):
    """Its server goes away at the second step."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == 2:
            raise ConnectionError("no route to host")
        super().step(step, metrics)


class Unmakeable(Collected):
    """It cannot be made."""

    def __init__(self, folder: Path, about: Mapping[str, Any], first_epoch: int) -> None:
        raise OSError("disk full")


def of(kind: str) -> list[Any]:
    return [value for k, value in Collected.calls if k == kind]


@pytest.fixture(autouse=True)
def none_collected() -> None:
    Collected.calls.clear()


def test_a_logger_of_ones_own_gets_all_numbers(run: Any) -> None:
    trained = run("test_44_loggers:Collected", validate_every=2)
    assert of("begin") == [("run", 4, 1)]
    # Two epochs of twelve crops in batches of four: steps count from 1 over all epochs.
    assert [step for step, _ in of("step")] == [1, 2, 3, 4, 5, 6]
    for epoch, row in enumerate(trained.history):
        losses = [numbers["loss"] for _, numbers in of("step")[3 * epoch : 3 * epoch + 3]]
        assert sum(losses) / 3 == pytest.approx(row["loss"])
    for _, numbers in of("step"):
        assert numbers.keys() == {"loss", "gradient_norm", "learning_rate", "waited_s"}
        assert numbers["learning_rate"] == 1e-2 and numbers["gradient_norm"] > 0 and numbers["waited_s"] >= 0
    (first, one), (second, two) = of("epoch")
    assert (first, second) == (1, 2)
    assert "validation_loss" not in one and not any(name.startswith("f1/") for name in one)
    row = trained.history[-1]
    assert {k: two[k] for k in two if not k.startswith("f1/")} == {k: v for k, v in row.items() if k != "epoch"}
    assert Collected.calls[-1] == ("close", None)


def test_f1_by_class_is_that_of_the_means(run: Any) -> None:
    """Macro F1 of the history is the mean of what is logged by class."""
    trained = run("test_44_loggers:Collected")
    for (_, numbers), row in zip(of("epoch"), trained.history, strict=True):
        by_class = {k.removeprefix("f1/"): v for k, v in numbers.items() if k.startswith("f1/")}
        assert by_class.keys() <= {c.key for c in SIX_CLASSES.classes}
        assert sum(by_class.values()) / len(by_class) == pytest.approx(row["macro_f1"])


def test_loggers_change_nothing_that_is_learnt_and_resume_where_the_training_does(run: Any, tmp_path: Path) -> None:
    plain = run()
    weights = load_checkpoint(plain.checkpoint).model.state_dict()
    for file in plain.folder.iterdir():
        file.unlink()
    run("test_44_loggers:Collected", max_epochs=1)
    (tmp_path / "run" / "training.json").unlink()
    Collected.calls.clear()
    resumed = run("test_44_loggers:Collected", max_epochs=1)  # finished with its state: nothing is logged again
    assert of("epoch") == []
    for file in resumed.folder.iterdir():
        file.unlink()
    again = load_checkpoint(run("test_44_loggers:Collected").checkpoint).model.state_dict()
    assert all(torch.equal(again[name], x) for name, x in weights.items())


@pytest.mark.parametrize(("name", "why"), [("Failing", "no route to host"), ("Unmakeable", "disk full")])
def test_a_logger_that_fails_is_left_out(name: str, why: str, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    trained = run(f"test_44_loggers:{name}", "test_44_loggers:Collected")
    assert len(trained.history) == 2
    said = [r.getMessage() for r in caplog.records if "logger" in r.getMessage()]
    assert len(said) == 1 and name in said[0] and why in said[0]
    assert [step for step, _ in of("step")][-5:] == [2, 3, 4, 5, 6]  # the other one goes on


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorbord", r"no logger is called 'tensorbord'.*'tensorboard'"),
        ("test_44_loggers:Nothing", "does not exist"),
        ("tiny_model:scene", "is not a MetricLogger"),
    ],
)
def test_unknown_loggers_are_refused_before_any_work(name: str, words: str, run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        run(name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(LOGGERS))
def test_what_is_not_installed_is_named(name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, module, package = LOGGERS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"pip install {package}"):
        run(name)


def test_the_old_setting_is_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match=r'loggers = \["tensorboard"\]'):
        TrainingSettings.checked(tensorboard=True)


# TensorBoard and Weights & Biases, by stand-ins of their interfaces; MLflow itself where it is installed


def test_tensorboard_gets_scalars(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, str, float, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int | None = None) -> None:
            self.kind = Path(folder).name
            assert Path(folder).parent.name == "tensorboard" and purge_step == (1 if self.kind == "epochs" else None)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((self.kind, name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            written.append((self.kind, "closed", 0, 0))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    trained = run("tensorboard", validate_every=2)
    of_epochs = [(v, s) for kind, n, v, s in written if (kind, n) == ("epochs", "loss")]
    assert of_epochs == [(x["loss"], x["epoch"]) for x in trained.history]
    assert [s for kind, n, _, s in written if (kind, n) == ("epochs", "weighted_f1")] == [2]
    assert [s for kind, n, _, s in written if (kind, n) == ("steps", "loss")] == [1, 2, 3, 4, 5, 6]
    assert {kind for kind, n, _, _ in written[-2:] if n == "closed"} == {"epochs", "steps"}


def test_wandb_gets_configuration_and_numbers(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: dict[str, Any] = {}
    logged: list[dict[str, float]] = []

    class Run:
        def define_metric(self, name: str, step_metric: str) -> None: ...

        def log(self, numbers: dict[str, float]) -> None:
            logged.append(numbers)

        def finish(self) -> None:
            logged.append({"finished": 1})

    stand_in = types.ModuleType("wandb")
    stand_in.init = lambda **given: begun.update(given) or Run()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    trained = run("wandb")
    assert begun["mode"] == "offline" and begun["dir"] == str(tmp_path / "run")
    assert begun["config"]["training.batch"] == 4
    assert [x["epoch/loss"] for x in logged if "epoch/loss" in x] == [row["loss"] for row in trained.history]
    assert [x["step"] for x in logged if "step/loss" in x] == [1, 2, 3, 4, 5, 6]
    assert logged[-1] == {"finished": 1}


@pytest.mark.filterwarnings("ignore")  # of MLflow's own dependencies
def test_mlflow_has_the_run(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("mlflow.tracking")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    trained = run("mlflow")
    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("floemap")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["training.batch"] == "4"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(r["epoch"], r["loss"]) for r in trained.history]
    assert [m.step for m in client.get_metric_history(found.info.run_id, "step/loss")] == [1, 2, 3, 4, 5, 6]
    assert client.get_metric_history(found.info.run_id, "f1/old_ice")
