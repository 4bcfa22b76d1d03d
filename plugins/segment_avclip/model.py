"""InfoNCE between the audio and video of the same segment."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from plugins.segment_avclip import SegmentAvclipConfig
from zoo.models.model import Tower
from zoo.models.modules import Gather, Objective, SegmentBatch


class SegmentAvclip(Objective):
    """Segment AVCLIP (paper section 3.2, equation 4).

    Every segment is its own class: its other modality is the positive, all other segments of the
    same clip and of the other clips are negatives.
    """

    def __init__(self, config: SegmentAvclipConfig) -> None:
        super().__init__()
        self.config = config
        self.temperature = nn.Parameter(torch.tensor(config.temperature))

    def forward(
        self, audio_tower: Tower, vision_tower: Tower, batch: SegmentBatch, gather: Gather
    ) -> dict[str, Tensor]:
        """Return the loss and the accuracy of picking the right segment out of the batch."""
        audio = audio_tower.embed(audio_tower(batch.audio.flatten(0, 1)))  # (N, E)
        vision = vision_tower.embed(vision_tower(batch.vision.flatten(0, 1)))  # (N, E)
        loss = self.contrast(audio, vision, gather if self.config.gather else _alone)
        return {**loss, "temperature": self.temperature.detach()}

    def contrast(
        self, audio: Float[Tensor, "N D"], vision: Float[Tensor, "N D"], gather: Gather
    ) -> dict[str, Tensor]:
        """Contrast this worker's segments with those of all workers."""
        with torch.no_grad():
            self.temperature.clamp_(self.config.min_temperature, self.config.max_temperature)
        all_audio, all_vision = gather(audio), gather(vision)  # (W*N, D)
        first = 0
        if len(all_audio) > len(audio):
            first = torch.distributed.get_rank() * len(audio)
        target = first + torch.arange(len(audio), device=audio.device)
        to_audio = vision @ all_audio.T / self.temperature  # (N, W*N)
        to_vision = audio @ all_vision.T / self.temperature  # (N, W*N)
        loss = (cross_entropy(to_audio, target) + cross_entropy(to_vision, target)) / 2
        hits = (to_audio.argmax(1) == target).float() + (to_vision.argmax(1) == target).float()
        return {"loss": loss, "segment_accuracy": hits.mean() / 2}


def _alone(tensor: Tensor) -> Tensor:
    return tensor
