"""A loss from outside is one like any other, and takes no other's place. It is the one of docs/tutorial-research.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from floemap.errors import ConfigError
from floemap.learning import losses
from floemap.learning.losses import LOSSES, Loss, make_loss, register_loss
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial-research.md"


@pytest.fixture
def registered() -> Iterator[None]:
    """Run the page's script, but for its last part; forget the loss afterwards."""
    (script,) = [
        b for b in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M) if "register_loss(" in b
    ]
    exec(compile(script, str(PAGE), "exec"), {"__name__": "tutorial"})
    yield
    del LOSSES["tversky"]


def test_settings_can_name_it(registered: None) -> None:
    loss = make_loss(LossSettings(name="tversky"), 3)
    assert isinstance(loss, Loss)
    labels = torch.tensor([[[0, 1], [2, IGNORE]]], dtype=torch.uint8)
    sure = 50 * torch.nn.functional.one_hot(labels.long().clamp(max=2), 3).movedim(-1, 1).float()
    assert loss(sure, labels).item() == pytest.approx(0, abs=1e-6)
    assert loss(-sure, labels).item() > 0.5
    assert loss(sure, torch.full_like(labels, IGNORE)).item() == 0
    both = loss.sums(sure, labels) + loss.sums(-sure, labels)
    batch = loss(torch.cat([sure, -sure]), torch.cat([labels, labels]))
    assert loss.value(both).item() == pytest.approx(batch.item())


@pytest.mark.parametrize("name", ["focal", "dice", "Mine", "my loss", "", "../mine", "a:b"])
def test_names_that_are_refused(name: str) -> None:
    before = dict(LOSSES)
    with pytest.raises(ConfigError, match="loss"):
        register_loss(name, LOSSES["focal"])
    assert dict(LOSSES) == before


def test_the_package_needs_no_torch_before_a_loss_is_used() -> None:
    script = (
        "import sys, floemap.learning.losses as losses; print('torch' in sys.modules); losses.Loss; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError):
        _ = losses.no_such_name
