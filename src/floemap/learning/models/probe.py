"""What a network of unknown structure needs and sees, measured by running it: sizes, stride, receptive field.

**Reach.** How far the output beside a boundary depends on what lies beyond it. All pixels beyond are replaced by NaN,
which goes through convolutions, means and normalisations whatever their weights, so that it shows the structure; and
then by zeros and by values a thousand times larger, which also pass where a module removes NaN or compares values. An
output counts as changed if it differs by more than :data:`TOLERANCE` of the largest output. The network runs on a copy
in evaluation mode with random weights: freshly initialised weights, such as a scale of zero, could hide what training
will show.

**Tiles.** A network may still depend on size or position, as by coordinates or by interpolation between the corners of
the image. So a tile with a margin of the measured reach must give what the same place gives within a larger image.
Where either fails for all boundaries that come into question, the reach counts as unlimited.

The measured reach may be larger than the true one: some implementations of convolution compute blocks of pixels
together, through which NaN spreads. A dependence that none of these runs brings about stays unseen: on values that do
not occur in them, below the tolerance in a module that also removes NaN, or by a jump of more than :data:`FARTHEST`
pixels that no convolution's or pooling's dilation shows.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from floemap.errors import ModelError

logger = logging.getLogger(__name__)

#: Gives the output, (N, K, h, w), of normalised bands, (N, B, H, W).
Run = Callable[[Tensor], Tensor]
#: The same for any network.
Runner = Callable[[nn.Module, Tensor], Tensor]

#: Smallest change of an output that counts, as a share of the largest output.
TOLERANCE = 1e-6
#: Largest difference between a tile and the same place of a larger image, as a share of the largest output.
_TILE_TOLERANCE = 1e-4
#: Multiples that the numbers of rows and columns are tried to be.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Multiples that corners of tiles are tried to be, beside the one that the size needs.
_CORNERS = (32, 128)
#: Smallest side of a trial image, pixels.
_SIDE = 48
#: Widths between two boundaries, pixels: a reach is measured up to nearly half of the last one.
_WIDTHS = (128, 512, 2048)
#: How far beyond a boundary NaN extends, pixels: a window with no tap nearer than that would be missed.
FARTHEST = 1024
#: Runs: whether rows and columns are exchanged, and what lies beyond the boundary, as factors of random values.
_BEYOND = tuple((turned, factors) for factors in ((math.nan,), (0.0, 1000.0)) for turned in (False, True))


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    stride
        Pixels of a cell of the output, in rows and in columns.
    alignment_px
        The numbers of rows and columns must be multiples of it, and so must the corners of tiles.
    reach_px
        How far the output beside a tile's edge depends on pixels beyond it; None if there is no limit, or none up to
        half of the largest trial image, or tiles do not give what one pass gives.
    """

    stride: int
    alignment_px: int
    reach_px: int | None


def find_sizes(network: nn.Module, run: Runner, bands: int, crop_px: int) -> tuple[int, int]:
    """Return the stride of a network, and the smallest known multiple that the sides of its input must be.

    Parameters
    ----------
    network
        The network. It is in evaluation mode afterwards, and its lazy modules, if any, have their weights.
    run
        Runs a network on normalised bands, (N, B, H, W), and gives its output, (N, K, h, w).
    bands
        Number of bands, B.
    crop_px
        Side of the crops of the training: if it runs at no other size, this is the multiple.

    Raises
    ------
    ModelError
        If it runs at no size, or the sides of the input are not a whole multiple of those of the output.
    """
    network.eval()

    def of(x: Tensor) -> Tensor:
        return run(network, x)

    with _trial_mode():
        return _sizes(of, bands, crop_px)


def measure(network: nn.Module, run: Runner, bands: int, stride: int, multiple: int) -> Measured:
    """Measure the reach of a network, which does not change; `stride` and `multiple` are from :func:`find_sizes`.

    If the network does not run on the trial images, which are narrow, tiles are out of the question, and the reach
    counts as unlimited.
    """
    trial = _with_random_weights(network)

    def of(x: Tensor) -> Tensor:
        return run(trial, x)

    with _trial_mode():
        if _farthest_tap(trial, run, bands, _rounded_up(_SIDE, multiple)) > FARTHEST:
            return Measured(stride, multiple, None)
        for corner in sorted({multiple, *(c for c in _CORNERS if c % multiple == 0)}):
            try:
                reach = _reach(of, bands, corner, stride)
                if reach is None:
                    break  # it does not depend on where the boundary is
                if _tiles_equal(of, bands, corner, stride, reach):
                    return Measured(stride, corner, _enough(of, bands, corner, reach))
            except Exception as e:  # whatever the module raises
                logger.info("a trial image of %d px: %s: %s", corner, type(e).__name__, e)
    return Measured(stride, multiple, None)


def tiles_equal(network: nn.Module, run: Runner, bands: int, corner: int, stride: int, reach: int) -> bool:
    """Return whether a tile with a margin of `reach` gives what the same place gives within a larger image.

    The corners of the tile are multiples of `corner`. The network does not change.
    """
    trial = _with_random_weights(network)
    with _trial_mode():
        return _tiles_equal(lambda x: run(trial, x), bands, corner, stride, reach)


@contextmanager
def _trial_mode() -> Iterator[None]:
    """Run without gradients, and with torch's random state kept."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        yield


def _with_random_weights(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode with random weights that keep the variance of what passes through them."""
    trial = copy.deepcopy(network).eval().requires_grad_(False)
    g = torch.Generator().manual_seed(0)
    for weight in trial.parameters():
        if weight.ndim > 1:
            fan_in = max(1, weight.numel() // weight.shape[0])
            weight.copy_(torch.randn(weight.shape, generator=g) * math.sqrt(2 / fan_in))
        else:
            weight.copy_(0.5 + torch.rand(weight.shape, generator=g))
    for module in trial.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=g))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=g))
    return trial


def noise(bands: int, rows: int, cols: int, seed: int = 0) -> Tensor:
    """Return normalised random bands, (1, B, rows, cols)."""
    return torch.randn(1, bands, rows, cols, generator=torch.Generator().manual_seed(seed))


def _sizes(run: Run, bands: int, crop_px: int) -> tuple[int, int]:
    """Return the stride, and the smallest known multiple that the sides of the input must be."""
    failed: ModelError | None = None
    for multiple in _MULTIPLES:
        count = -(-_SIDE // multiple)
        count += 1 - count % 2  # an odd and an even multiple, so that a larger one is not missed
        try:
            stride = _stride(run, bands, multiple * count, multiple * (count + 1))
            _stride(run, bands, multiple * (count + 1), multiple * count)
        except ModelError as e:
            failed = failed or e
        else:
            return stride, multiple
    try:
        return _stride(run, bands, crop_px, crop_px), crop_px
    except ModelError:
        assert failed is not None
        raise failed from None


def _stride(run: Run, bands: int, rows: int, cols: int) -> int:
    size = f"an input of {rows} x {cols} pixels"
    try:
        shape = run(noise(bands, rows, cols)).shape
    except ModelError:
        raise
    except Exception as e:  # whatever the module raises
        reason = " ".join(str(e).split())[:300]
        raise ModelError(f"fails for {bands} bands and {size}: {type(e).__name__}: {reason}") from e
    h, w = shape[-2:]
    stride = rows // h if h else 0
    if stride < 1 or (h * stride, w * stride) != (rows, cols):
        raise ModelError(
            f"gives {h} x {w} cells for {size}: the input's sides must be the same whole multiple of the output's."
        )
    return stride


def _reach(run: Run, bands: int, corner: int, stride: int) -> int | None:
    """Return how far the output depends on pixels beyond a boundary at a multiple of `corner`; None if everywhere."""
    for width in _WIDTHS:
        clean = _rounded_up(width, corner)
        depths = [_depth(run, bands, corner, clean, stride, turned, values) for turned, values in _BEYOND]
        if None not in depths:
            return max(d for d in depths if d is not None)
    return None


def _depth(
    run: Run, bands: int, corner: int, clean: int, stride: int, turned: bool, factors: tuple[float, ...]
) -> int | None:
    """Return how far into `clean` rows (columns, if turned) between two boundaries the output changes, pixels.

    None if the changes from both sides meet.
    """
    nan = math.isnan(factors[0])
    beyond = _rounded_up(FARTHEST if nan else _SIDE, corner)
    shape = bands, clean + 2 * beyond, _rounded_up(_SIDE, corner)
    x = noise(*shape)
    inside = slice(beyond // stride, (beyond + clean) // stride)

    def output(factor: float) -> Tensor:
        given = factor * noise(*shape, seed=1)
        given[..., beyond : beyond + clean, :] = x[..., beyond : beyond + clean, :]
        return (run(given.mT.contiguous()).mT if turned else run(given))[0, :, inside]

    if nan:
        changed = output(math.nan).isnan().any(dim=2).any(dim=0)
    else:
        before = output(1.0)
        limit = TOLERANCE * float(before.abs().max())
        same = torch.stack([((output(factor) - before).abs() <= limit).all(dim=2).all(dim=0) for factor in factors])
        changed = ~same.all(dim=0)
    middle, between = len(changed) // 2, len(changed) // 32
    if changed[middle - between : middle + between + 1].any():
        return None
    cells = torch.arange(len(changed))
    depth = torch.where(cells < middle, cells + 1, len(changed) - cells)  # of a cell below the boundary next to it
    return int(torch.where(changed, depth, 0).max()) * stride


def _farthest_tap(network: nn.Module, run: Runner, bands: int, side: int) -> float:
    """Return how far the outermost tap of any sliding window lies from its centre, in pixels of the input."""
    found = [0.0]

    def note(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        for axis in (0, 1):
            kernel, dilation = (_pair(getattr(module, key))[axis] for key in ("kernel_size", "dilation"))
            found.append(dilation * (kernel // 2) * side / given[0].shape[2 + axis])

    kinds = (nn.Conv2d, nn.MaxPool2d)
    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, kinds)]
    try:
        run(network, noise(bands, side, side))
    finally:
        for hook in hooks:
            hook.remove()
    return max(found)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _tiles_equal(run: Run, bands: int, corner: int, stride: int, reach: int) -> bool:
    """Return whether a tile with its margin gives what the same place gives within a larger image."""
    margin, least = _rounded_up(reach, corner), _rounded_up(_SIDE, corner)
    tile = max(least, 3 * corner) + 2 * margin
    for turned in (False, True):
        x = noise(bands, tile + 2 * corner + least, least, seed=2)
        part = x[..., corner : corner + tile, :]
        whole, own = (run(v.mT.contiguous()).mT if turned else run(v.contiguous()) for v in (x, part))
        a, b, start = margin // stride, (tile - margin) // stride, corner // stride
        there = whole[..., start + a : start + b, :]
        if not (own[..., a:b, :] - there).abs().max() <= _TILE_TOLERANCE * there.abs().max():
            return False
    return True


def _enough(run: Run, bands: int, corner: int, reach: int) -> int:
    """Return the reach, or more if the network does not run on the smallest tile that it leads to."""
    side = corner + _rounded_up(reach, corner)
    try:
        run(noise(bands, side, side))
    except Exception:  # whatever the module raises
        return max(reach, _SIDE)
    return reach
