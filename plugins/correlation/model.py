"""The correlation head."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.correlation import CorrelationConfig
from zoo.contracts import FeatureMap, HeadInput
from zoo.models.modules import Head
from zoo.models.segments import Tokens


class ContextProjection(nn.Module):
    """Projects tokens to the width they are compared in, with what is around them in time.

    A linear map, plus a small convolution over the time steps of the token's own segment which
    starts at zero: it lets a token say how the audio or the motion was just before.
    """

    def __init__(self, tokens: FeatureMap, config: CorrelationConfig) -> None:
        super().__init__()
        self.steps = tokens.steps
        self.linear = nn.Linear(tokens.dim, config.width, bias=False)
        self.context: nn.Sequential | None = None
        if config.context:
            width, kernel = config.width, config.context
            gather = nn.Conv1d(tokens.dim, width, kernel, padding=kernel // 2)
            mix = nn.Conv1d(width, width, 1)
            for parameter in mix.parameters():
                nn.init.zeros_(parameter)
            self.context = nn.Sequential(gather, nn.GELU(), mix)

    def forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L W"]:
        """Project tokens, segment-major."""
        x = self.linear(tokens)
        if self.context is None:
            return x
        segments = tokens.unflatten(1, (-1, self.steps)).flatten(0, 1)  # (B*S, T, D)
        around = self.context(segments.transpose(1, 2)).transpose(1, 2)  # (B*S, T, W)
        return x + around.reshape(x.shape)


class CorrelationHead(Head):
    """Scores an offset o by the similarity of the tokens that o brings together.

    With M the similarity of every video with every audio token, and tau = t_v - t_a the distance of
    their times inside the crops, ``logit(o) = g <W_o, M> + b_o``, where W_o is one learnt kernel of
    tau - o, scaled to unit norm.  Evidence adds up along diagonals, so nothing has to be learnt
    about where in a crop an event falls; any number of segments and any grid of offsets will do.
    """

    offsets_s: Tensor

    def __init__(self, config: CorrelationConfig, head_input: HeadInput) -> None:
        super().__init__()
        grid = head_input.require_grid("correlation")
        self.layout = head_input.layout
        self.reach_s = config.reach_s
        self.centred = config.centred
        self.audio_projection = ContextProjection(head_input.audio, config)
        self.vision_projection = ContextProjection(head_input.vision, config)
        if head_input.audio.dim == head_input.vision.dim:
            # Stage I has already brought both modalities into one space: compare them as they are.
            shared = self.vision_projection.linear.state_dict()
            self.audio_projection.linear.load_state_dict(shared)
        knots_s = torch.linspace(-config.reach_s, config.reach_s, config.knots)
        self.kernel = nn.Parameter(torch.exp(-0.5 * (knots_s / config.sigma_s) ** 2))
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.zeros(grid.num_classes))
        offsets = torch.tensor(grid.offsets_s, dtype=torch.float32)
        self.register_buffer("offsets_s", offsets, persistent=False)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Classify the offset; the crop may have any number of segments."""
        return self.gain * self.curve(audio, vision, self.offsets_s) + self.bias

    def logits_at(
        self,
        audio: Tokens,
        vision: Tokens,
        offsets_s: Float[Tensor, "O"],
    ) -> Float[Tensor, "B O"]:
        """Score any offsets; between classes the bias is interpolated."""
        step_s = self.offsets_s[1] - self.offsets_s[0]
        place = ((offsets_s - self.offsets_s[0]) / step_s).clamp(0, len(self.offsets_s) - 1)
        left = place.floor().long().clamp(max=len(self.offsets_s) - 2)
        share = place - left
        bias = self.bias[left] * (1 - share) + self.bias[left + 1] * share  # (O,)
        return self.gain * self.curve(audio, vision, offsets_s) + bias

    def curve(
        self,
        audio: Tokens,
        vision: Tokens,
        offsets_s: Float[Tensor, "O"],
    ) -> Float[Tensor, "B O"]:
        """Return the correlation at any offsets, on a grid as fine as one likes.

        Args:
            audio: tokens of the audio crop.
            vision: tokens of the video crop.
            offsets_s: offsets to score, seconds.
        """
        a = self.audio_projection(_unit_scale(audio.flat))  # (B, La, W)
        v = self.vision_projection(_unit_scale(vision.flat))  # (B, Lv, W)
        if self.centred:
            a, v = a - a.mean(dim=1, keepdim=True), v - v.mean(dim=1, keepdim=True)
        similarity = (v @ a.transpose(1, 2)).flatten(1)  # (B, Lv*La)
        spread = similarity.std(dim=1, keepdim=True).clamp_min(1e-6)  # (B, 1)
        tau_s = self._times(vision)[:, None] - self._times(audio)  # (Lv, La)
        weights = self._weights(tau_s.flatten() - offsets_s[:, None])  # (O, Lv*La)
        return similarity @ weights.T.to(similarity.dtype) / spread  # (B, O)

    def _times(self, tokens: Tokens) -> Float[Tensor, "L"]:
        """Return the time of every token within its crop, seconds."""
        layout = self.layout.model_copy(update={"num_segments": tokens.num_segments})
        device = tokens.values.device
        starts = torch.tensor(layout.starts_s, device=device)[:, None]  # (S, 1)
        return (starts + torch.tensor(tokens.times_s, device=device)).flatten()

    def _weights(self, distance_s: Float[Tensor, "O M"]) -> Float[Tensor, "O M"]:
        """Read the kernel at a distance from the diagonal, zero beyond its reach."""
        last = len(self.kernel) - 1
        place = (distance_s + self.reach_s) * (last / (2 * self.reach_s))
        inside = (place >= 0) & (place <= last)
        left = place.floor().clamp(0, last - 1).long()
        right_share = place - left
        weights = self.kernel[left] * (1 - right_share) + self.kernel[left + 1] * right_share
        weights = weights * inside
        return weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-6)


class SynchronizabilityHead(CorrelationHead):
    """Says whether the correlation over all offsets has a peak: (no, yes).

    With z the logits over the offsets, a crop whose streams share nothing has a flat z; one that
    has an offset peaks there.  The answer is a line through how far ``logsumexp(z)`` lies above
    what it is for the mean of z everywhere.
    """

    def __init__(self, config: CorrelationConfig, head_input: HeadInput) -> None:
        super().__init__(config, head_input)
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.threshold = nn.Parameter(torch.tensor(2.0))

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B 2"]:
        """Answer no or yes; the crop may have any number of segments."""
        z = super().forward(audio, vision)  # (B, K)
        peak = z.logsumexp(1) - z.mean(1) - math.log(z.shape[1])  # 0 where z is flat
        yes = self.slope * peak - self.threshold
        return torch.stack([-yes / 2, yes / 2], dim=1)


def _unit_scale(tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """Scale each clip's tokens so that their mean norm is sqrt(D)."""
    mean_norm = tokens.norm(dim=2).mean(dim=1)[:, None, None].clamp_min(1e-6)
    return tokens * (math.sqrt(tokens.shape[2]) / mean_norm)
