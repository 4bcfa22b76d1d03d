"""The two extractors: what changes is measured first, then convolutions read it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from plugins.onset_motion.config import COLUMNS, MotionCnnConfig, OnsetCnnConfig
from zoo.models.modules import Extractor

RISE_GAIN = 6.0  # of the change of log-mels, which is small beside them
LUMA = (0.299, 0.587, 0.114)
LEAST_SPREAD = 0.1  # of the brightness, in -1..1: below, a segment is dark, not flat
MAPS = 6
SMALL = 1e-5  # root of a map around 0, where its slope would be infinite
FLOOR = 1e-4  # of the logarithms


class OnsetCnn(Extractor):
    """Log-mels of segments to one token per 0.04 s."""

    def __init__(self, config: OnsetCnnConfig) -> None:
        super().__init__()
        self.steps = config.feature_map().steps
        one, two, three = config.width, 2 * config.width, 3 * config.width
        self.convolutions = nn.Sequential(
            _block(2, one, kernel=5, stride=(2, 2)),
            _block(one, two, stride=(2, 2)),
            _block(two, three, stride=(2, 1)),
        )
        bands = -(-config.frontend.num_bins // 8)
        self.join_bands = nn.Linear(bands * three, config.dim)
        self.in_time = _InTime(config.dim)

    def forward(self, segments: Float[Tensor, "N F Ta"]) -> Float[Tensor, "N T P D"]:
        """Extract features of log-mels."""
        mel = segments[:, :, : COLUMNS * self.steps]  # without the filling behind the last column
        rise = _with_first(mel.diff(dim=2), dim=2)
        x = torch.stack([mel, RISE_GAIN * rise], dim=1)  # (N, 2, F, 4*T)
        x = self.convolutions(x)  # (N, C, F', T)
        x = self.join_bands(x.permute(0, 3, 1, 2).flatten(2))  # (N, T, D)
        return self.in_time(x.transpose(1, 2)).transpose(1, 2).unsqueeze(2)


class MotionCnn(Extractor):
    """RGB segments to features per frame and place, from maps of their motion."""

    def __init__(self, config: MotionCnnConfig) -> None:
        super().__init__()
        self.cell = config.cell
        self.convolutions = nn.Sequential(
            _block(MAPS, config.width),
            _block(config.width, 2 * config.width, stride=(2, 2)),
            _block(2 * config.width, config.dim, stride=(2, 2)),
        )
        self.in_time = _InTime(config.dim)

    def forward(self, segments: Float[Tensor, "N C Tv H W"]) -> Float[Tensor, "N T P D"]:
        """Extract features of RGB segments."""
        num, steps = segments.shape[0], segments.shape[2]
        x = motion_maps(segments, self.cell).flatten(0, 1)  # (N*T, 6, h, w)
        x = x.contiguous(memory_format=torch.channels_last)  # faster on CPUs
        x = self.convolutions(x)  # (N*T, D, h', w')
        x = x.flatten(2).unflatten(0, (num, steps))  # (N, T, D, P)
        x = x.permute(0, 3, 2, 1).flatten(0, 1)  # (N*P, D, T)
        return self.in_time(x).unflatten(0, (num, -1)).permute(0, 3, 1, 2)


def motion_maps(segments: Float[Tensor, "N C T H W"], cell: int) -> Float[Tensor, "N T M h w"]:
    """Measure in square cells of every frame how much changed since the frame before, and where to.

    With x the brightness, smoothed and scaled to unit spread over the segment, and x_t, x_x, x_y
    its differences in time and space, the maps are the means of x_t, of x_t^2 (as root and as
    logarithm), of x_x^2 + x_y^2 (as logarithm), and of x_x x_t and x_y x_t: entries of the
    structure tensor in space and time, from which optical flow is computed.  They do not depend on
    where in a cell something is, nor on its looks, which is what a model of drawn clips would
    learn.  The first frame has the maps of the second.

    Args:
        segments: RGB, -1..1.
        cell: side of a cell, pixels.
    """
    # No matrix product, which autocast would round: what is read are small differences.
    red, green, blue = (share * segments[:, i] for i, share in enumerate(LUMA))
    x = red + green + blue  # (N, T, H, W)
    spread = x.flatten(1).std(dim=1).clamp_min(LEAST_SPREAD)
    x = (x - x.mean(dim=(2, 3), keepdim=True)) / spread[:, None, None, None]
    x = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)  # grain
    x_t, mean = x[:, 1:] - x[:, :-1], (x[:, 1:] + x[:, :-1]) / 2  # (N, T-1, H, W)
    mean = pad(mean, (1, 1, 1, 1), mode="replicate")
    x_x = (mean[:, :, 1:-1, 2:] - mean[:, :, 1:-1, :-2]) / 2
    x_y = (mean[:, :, 2:, 1:-1] - mean[:, :, :-2, 1:-1]) / 2
    products = (x_t, x_t**2, x_x**2 + x_y**2, x_x * x_t, x_y * x_t)
    change, power, edges, along_x, along_y = (avg_pool2d(part, cell) for part in products)
    maps = (  # factors and shifts bring each to about unit size
        3 * _signed_root(change),
        3 * power.sqrt(),
        (power + FLOOR).log() / 3 + 1.5,
        (edges + FLOOR).log() / 3 + 1.0,
        3 * _signed_root(along_x),
        3 * _signed_root(along_y),
    )
    return _with_first(torch.stack(maps, dim=2), dim=1)


def _with_first(x: Tensor, dim: int) -> Tensor:
    """Repeat what comes first, so that the start of a segment is no event."""
    return torch.cat([x.narrow(dim, 0, 1), x], dim=dim)


def _signed_root(x: Tensor) -> Tensor:
    return x.sign() * ((x.abs() + SMALL).sqrt() - SMALL**0.5)


class _InTime(nn.Module):
    """What a token is, and what the tokens before and after it add: ``(N, D, T)`` both ways."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.before_and_after = nn.Sequential(
            nn.Conv1d(dim, dim, 5, padding=2, padding_mode="replicate"),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.before_and_after(x)


def _block(
    inputs: int, outputs: int, *, kernel: int = 3, stride: tuple[int, int] = (1, 1)
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
