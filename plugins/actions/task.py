"""The task actions: samples, loss, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from plugins.actions import NOUN, VERB, ActionsConfig, action_of
from zoo.evaluation.tables import ReportTable
from zoo.models.task import Answer, Need, Task
from zoo.timeline import Placement, Sample, SegmentLayout, place_crops

if TYPE_CHECKING:
    from zoo.data.manifest import Clip
    from zoo.evaluation.rounds import Outcome
    from zoo.evaluation.sample_sources import Samples

SCORES = ("verb_accuracy", "noun_accuracy", "action_accuracy")
MOST_SHOWN = 5  # actions that a prediction names
MOST_ROWS = 20  # of a table of classes
SMALLEST = 1e-7  # probability whose logarithm is taken


class Actions(Task):
    """One of V verbs and one of N nouns; the outputs are the logits of both, K = V + N."""

    says = "says which action a clip shows, a verb and a noun"
    has_labels = True
    num_sums = 5

    def __init__(self, config: ActionsConfig) -> None:
        self.config = config
        self.sizes = [max(1, len(config.verbs)), max(1, len(config.nouns))]
        self._verbs, self._nouns = (
            {name: i for i, name in enumerate(names)} for names in (config.verbs, config.nouns)
        )

    @property
    def num_outputs(self) -> int:
        """K, a logit per verb and per noun; 2 while they are not known."""
        return sum(self.sizes)

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The verbs, then the nouns."""
        return self.config.classes or None

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """Return the length of a crop; one of a single segment may reach beyond the end."""
        return Need(layout.shortest_s, "nothing else")

    def accepts(self, clip: Clip) -> bool:
        """Say whether a clip has one known verb and one known noun."""
        action = action_of(clip)
        return action is not None and action[0] in self._verbs and action[1] in self._nouns

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Choose a crop of both streams at the same time."""
        return place_crops(rng, index, duration_s, place, offset_s=0.0, target=self._target(clip))

    def _target(self, clip: Clip) -> tuple[int, int]:
        action = action_of(clip)
        assert action is not None
        return self._verbs[action[0]], self._nouns[action[1]]

    def soften(self, target: Any, other: Any, share: float, smoothing: float) -> Any:
        """Return the labels as a vector of K that adds up to 1 over verbs, and over nouns."""
        parts = []
        for size, mine, theirs in zip(self.sizes, target, other, strict=True):
            labels = np.full(size, smoothing / size)
            labels[mine] += share * (1 - smoothing)
            labels[theirs] += (1 - share) * (1 - smoothing)
            parts += labels.tolist()
        return tuple(parts)

    def labels_of(self, targets: Tensor) -> Float[Tensor, "B K"]:
        """Return 1 for the verb and for the noun of each clip, and 0 for the others."""
        pairs = zip(targets.unbind(1), self.sizes, strict=True)
        return torch.cat([one_hot(part, size) for part, size in pairs], dim=1).float()

    def smooth(self, labels: Float[Tensor, "... K"], smoothing: float) -> Float[Tensor, "... K"]:
        """Spread a share of the verb over all verbs, and of the noun over all nouns."""
        parts = [super(Actions, self).smooth(part, smoothing) for part in self._split(labels)]
        return torch.cat(parts, dim=-1)

    def clip_weights(self, clips: Sequence[Clip]) -> list[float]:
        """Return one over the clips of a clip's verb, plus one over those of its noun."""
        targets = [self._target(clip) for clip in clips]
        verbs, nouns = (Counter(part) for part in zip(*targets, strict=True))
        return [1 / verbs[verb] + 1 / nouns[noun] for verb, noun in targets]

    def average(self, outputs: Float[Tensor, "R N K"]) -> Float[Tensor, "N K"]:
        """Return what leads to the mean of the probabilities of R readings."""
        means = [part.softmax(-1).mean(0) for part in self._split(outputs.float())]
        return torch.cat(means, dim=-1).clamp_min(SMALLEST).log()

    def loss(self, outputs: Float[Tensor, "B K"], targets: Tensor, sigma: float) -> Tensor:
        """Return the mean of the cross-entropies of verb and noun.

        Targets are classes ``(B, 2)`` or labels ``(B, K)``, which are no integers.
        """
        parts = self._split(outputs)
        if targets.is_floating_point():
            wanted = list(self._split(targets.to(outputs.dtype)))
        else:
            wanted = list(targets.unbind(1))
        verb, noun = (cross_entropy(*pair) for pair in zip(parts, wanted, strict=True))
        return (verb + noun) / 2

    def sums(self, outputs: Float[Tensor, "B K"], targets: Tensor) -> list[float]:
        """Return clips whose verb, noun and both are right, summed loss, number of clips."""
        total = float(self.loss(outputs.float(), targets, 0.0)) * len(targets)
        hits = self._hits(outputs, targets).sum(0).tolist()
        return [*map(float, hits), total, float(len(targets))]

    def _hits(self, outputs: Float[Tensor, "B K"], targets: Tensor) -> Tensor:
        """Return whether verb, noun and both are right, ``(B, 3)``."""
        if targets.is_floating_point():
            targets = torch.stack([part.argmax(1) for part in self._split(targets)], 1)
        found = torch.stack([part.argmax(1) for part in self._split(outputs)], 1)
        hits = found == targets  # (B, 2)
        return torch.cat([hits, hits.all(1, keepdim=True)], 1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the verbs and those of the nouns."""
        return outputs.split(self.sizes, dim=-1)

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Turn sums into the shares of right verbs, nouns and actions, and the mean loss."""
        *hits, total, num = sums
        number = max(1.0, num)
        shares = {name: count / number for name, count in zip(SCORES, hits, strict=True)}
        return {**shares, "cross_entropy": total / number, "num": int(num)}

    @property
    def chance(self) -> dict[str, float]:
        """What the commonest verb, noun and action of the training clips score, always said."""
        shares = np.asarray(self.config.shares or [1 / s for s in self.sizes for _ in range(s)])
        entropy, highest = [], []
        for p in np.split(shares, self.sizes[:1]):
            known = p[p > 0]
            entropy.append(float(-(known * np.log(known / known.sum())).sum()))
            highest.append(float(p.max()))
        action = self.config.action_share or highest[0] * highest[1]
        accuracies = dict(zip(SCORES, (*highest, action), strict=True))
        return {**accuracies, "cross_entropy": float(np.mean(entropy)), "num": 0}

    def values(self, outputs: Float[Tensor, "N K"], targets: Tensor) -> dict[str, np.ndarray]:
        """Return per clip whether its verb, noun and action are right."""
        hits = self._hits(outputs, targets).double().numpy()
        return {name: hits[:, i] for i, name in enumerate(SCORES)}

    def report(self, outcome: Outcome, samples: Samples, seed: int) -> dict[str, Any]:
        """Return the accuracy of every verb and of every noun that some clip has."""
        targets = self.collate(outcome.answers)
        hits = self._hits(outcome.output(), targets)
        names = (self.config.verbs, self.config.nouns)
        return {
            kind: {
                _plain(name): {
                    "accuracy": float(hits[is_this, i].double().mean()),
                    "num": int(is_this.sum()),
                }
                for number, name in enumerate(names[i])
                if (is_this := targets[:, i] == number).any()
            }
            for i, kind in enumerate(("verbs", "nouns"))
        }

    def report_tables(self, report: Mapping[str, Any]) -> list[ReportTable]:
        """Return the commonest verbs and nouns, and how many of their clips are right."""
        return [_table(kind, report[kind]) for kind in ("verbs", "nouns")]

    def answer(
        self, outputs: Float[Tensor, "W K"], starts_s: Sequence[float], crop_s: float
    ) -> Answer:
        """Return the likeliest actions: the products of the probabilities of verb and noun."""
        verbs, nouns = (part.softmax(1).mean(0) for part in self._split(outputs.float()))
        products = torch.outer(verbs, nouns).flatten()
        best = products.topk(min(MOST_SHOWN, len(products)))
        actions = []
        for probability, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            verb, noun = divmod(place, len(nouns))
            actions.append(
                {
                    "verb": _plain(self.config.verbs[verb]),
                    "noun": _plain(self.config.nouns[noun]),
                    "probability": probability,
                }
            )
        lines = [f"{a['verb']} {a['noun']} (probability {a['probability']:.2f})" for a in actions]
        facts = {
            "actions": actions,
            "verbs": _ranked(self.config.verbs, verbs),
            "nouns": _ranked(self.config.nouns, nouns),
        }
        return Answer(facts, lines)


def _plain(name: str) -> str:
    """Return a class without what says whether it is a verb or a noun."""
    return name.removeprefix(VERB).removeprefix(NOUN)


def _ranked(names: Sequence[str], probabilities: Tensor) -> list[dict[str, Any]]:
    order = probabilities.argsort(descending=True).tolist()
    return [{"label": _plain(names[k]), "probability": float(probabilities[k])} for k in order]


def _table(kind: str, classes: Mapping[str, Mapping[str, float]]) -> ReportTable:
    found = sorted(classes.items(), key=lambda item: -item[1]["num"])[:MOST_ROWS]
    rows = [[name, str(c["num"]), f"{c['accuracy']:.1%}"] for name, c in found]
    more = len(classes) - len(rows)
    text = f"{more} rarer {kind} are in the JSON report." if more else ""
    return ReportTable(kind.capitalize(), [kind[:-1], "samples", "accuracy"], rows, text)
