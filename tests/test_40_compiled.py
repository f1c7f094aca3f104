"""Compiled code: its gradients are those of plain code. Needs torch and none of the geospatial libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_model import scene
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func  # type: ignore[attr-defined]

from floemap.learning.data.crops import Batch
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses import base as losses_base
from floemap.learning.losses.base import BaseLoss
from floemap.learning.losses.cross_entropy import CrossEntropy
from floemap.learning.losses.region import RegionPixel
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models import base as models_base
from floemap.learning.models.registry import build_model
from floemap.learning.models.upsampling import by_products
from floemap.learning.settings import CropSettings, LearningSettings, LossSettings, ModelSettings, TrainingSettings
from floemap.learning.training.compiling import compiled, compiles
from floemap.learning.training.step import BatchSums, inputs_of
from floemap.legend import IGNORE

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

#: torch's compiler looks at .grad of all tensors and means to hide the warning, which an error filter comes before.
not_of_ours = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A processor stands in for a GPU: it upsamples as one does, and checks no labels. What differs is the compiler."""
    if request.param == "cpu":
        monkeypatch.setattr(models_base, "upsampled", by_products)
        monkeypatch.setattr(losses_base, "check_labels", lambda *_: None)
    return str(request.param)


def _batch(size: int) -> Batch:
    """Two crops, whose size is padded; their classes are pure polygons, and some pixels have none."""
    part = scene("a", 1, (size, 2 * size))
    stored = torch.from_numpy(part.stored).reshape(3, size, 2, size).permute(2, 0, 1, 3)
    labels = torch.from_numpy(part.labels).reshape(size, 2, size).permute(1, 0, 2).contiguous()
    labels[:, :5] = IGNORE
    return Batch(stored, labels, Polygons.of_labels(labels, 6))


def _gradients(network: BatchSums, losses: TaskLosses, batch: Batch, device: str) -> dict[str, Tensor]:
    network.zero_grad()
    losses.total(losses.values(network(*inputs_of(batch, torch.device(device))))).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@not_of_ours
@pytest.mark.parametrize(
    ("model_name", "name", "size"),
    [
        ("resnet18_aspp", "cross_entropy", 100),
        *(
            ("tiny", n, 30)
            for n in LOSSES
            if torch.cuda.is_available() or n in ("dice", "partial_label", "region_pixel")
        ),
    ],
)
@pytest.mark.usefixtures("tiny_is_a_model")
def test_compiled_gradients_are_the_eager_ones(model_name: str, name: str, size: int, device: str) -> None:
    """Every loss on a GPU, some on a processor, with a small model; one with a large model. None is zero."""
    torch.manual_seed(0)
    rates = (2, 4, 6) if model_name != "tiny" else None
    model = build_model(ModelSettings(name=model_name, rates=rates, dropout=0.0), 6).to(device).train()
    model.set_normalisation([-15, -25, 30], [5, 5, 8])
    losses = TaskLosses.of(make_loss(LossSettings(name=name), 6))
    network = BatchSums(model, losses)
    batch = _batch(size)
    torch._dynamo.reset()
    code = compiled(network, "inductor" if device == "cuda" else "aot_eager")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 would round a GPU's factors to ten bits
        eager, found = (_gradients(n, losses, batch, device) for n in (network, code))
    assert eager.keys() == found.keys() == dict(network.named_parameters()).keys()
    for weight, g in eager.items():
        assert g.abs().max() > 0, weight
        error = float((found[weight] - g).norm() / g.norm())
        assert error < (1e-4 if model_name == "tiny" else 0.02), weight  # rounding moves some inputs of ReLU across 0


@pytest.mark.usefixtures("tiny_is_a_model")
def test_bands_are_normalised_before_they_are_rounded(device: str) -> None:
    """In bfloat16 30.00 and 30.05 degrees are one number; as shares of the standard deviation they are two."""
    model = build_model(ModelSettings(name="tiny", dropout=0.0), 6).to(device)
    model.set_normalisation([-15, -25, 30], [5, 5, 8])
    network = BatchSums(model, TaskLosses.of(make_loss(LossSettings(), 6)))
    batch = _batch(30)
    sums = []
    for degrees in (30.0, 30.05):
        batch.stored[:, 2] = round((degrees - float(network.offset.flatten()[2])) / float(network.step.flatten()[2]))
        with torch.autocast(device, torch.bfloat16), torch.no_grad():
            sums.append(network.eval()(*inputs_of(batch, torch.device(device)))[0])
    assert not torch.equal(*sums)


@not_of_ours
@pytest.mark.usefixtures("tiny_is_a_model")
def test_autocast_is_that_of_plain_code(device: str) -> None:
    """Upsampling and loss in float32 in both directions: only what is in bfloat16 in plain code is in compiled code."""
    torch.manual_seed(0)
    model = build_model(ModelSettings(name="tiny", dropout=0.0), 6).to(device)
    model.set_normalisation([-15, -25, 30], [5, 5, 8])
    losses = TaskLosses.of(make_loss(LossSettings(), 6))
    network = BatchSums(model, losses)
    products: list[torch.dtype] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        """Note the types of the products in compiled code."""
        calls = [n for n in graph.graph.nodes if n.target in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)]
        products.extend(n.meta["val"].dtype for n in calls)
        return make_boxed_func(graph)

    with torch.autocast(device, torch.bfloat16):
        sums = compiled(network, aot_autograd(fw_compiler=backend, bw_compiler=backend))(
            *inputs_of(_batch(30), torch.device(device))
        )
    losses.total(losses.values(sums)).backward()
    assert len(products) == 4 and set(products) == {torch.float32}


@not_of_ours
@pytest.mark.usefixtures("tiny_is_a_model")
def test_compiled_view_shares_weights_and_mode_and_leaves_the_network_plain(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "floemap")
    network = BatchSums(build_model(ModelSettings(name="tiny"), 6), TaskLosses.of(make_loss(LossSettings(), 6)))
    view = compiled(network, backend="eager")
    given = inputs_of(_batch(30), torch.device("cpu"))
    view.eval()
    assert not network.model.training
    assert torch.equal(view(*given)[0], network(*given)[0])
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    assert torch.equal(view(*given)[0], network(*given)[0])
    assert "forward" not in vars(network) and "forward" not in vars(network.model)
    assert view.state_dict().keys() == network.state_dict().keys()
    assert caplog.text.count("the training step was compiled in") == 1


class OwnLoss(CrossEntropy):
    """A loss of the user's: nobody has compared its gradients."""


@pytest.mark.parametrize(
    ("loss", "with_it"),
    [
        (CrossEntropy(6), True),
        (RegionPixel(6), True),
        (RegionPixel(6, RegionPixel.Options(curriculum=(1.0, 0.8))), False),  # another program in each step of it
        (OwnLoss(6), False),
    ],
)
@pytest.mark.usefixtures("tiny_is_a_model")
def test_losses_that_are_not_known_compiled_are_not(loss: BaseLoss, with_it: bool) -> None:
    network = BatchSums(build_model(ModelSettings(name="tiny"), 6), TaskLosses.of(loss))
    view = compiled(network, backend="eager")
    assert ("forward" in vars(view)) is with_it
    assert ("forward" in vars(view.model)) is not with_it


@pytest.mark.parametrize(
    ("epochs", "stop_after", "validate_every", "crops", "said"),
    [
        # 0.8 ms a megapixel and 30 s: from 37,500 crops of a megapixel on.
        (1000, 1000, 1, 37, False),  # 1000 x 37 crops
        (1000, 1000, 1, 38, True),
        (1000, 37, 1, 1000, True),  # may end after 38 epochs
        (1000, 36, 1, 1000, False),  # or after 37
        (1000, 18, 2, 1000, True),  # 19 validations, one in two epochs
        (30, 1000, 1, 1000, False),
    ],
)
def test_auto_compiles_where_the_shortest_training_gains(
    epochs: int, stop_after: int, validate_every: int, crops: int, said: bool
) -> None:
    def settings(compile_it: Any) -> LearningSettings:
        return LearningSettings(
            crops=CropSettings(size_px=1000, per_scene=crops),
            training=TrainingSettings(
                batch=1, max_epochs=epochs, stop_after=stop_after, validate_every=validate_every, compile=compile_it
            ),
        )

    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert compiles(settings("auto"), 1, gpu) is said
    assert compiles(settings(True), 1, gpu) and not compiles(settings(False), 1, gpu)
    assert not any(compiles(settings(x), 1, cpu) for x in ("auto", True, False))
