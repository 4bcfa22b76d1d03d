"""The task actions: which verb and which noun a clip shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

import zoo
from zoo.errors import TrainingError

if TYPE_CHECKING:
    from zoo.data.manifest import Clip

VERB, NOUN = "verb:", "noun:"


class ActionsConfig(zoo.TaskConfig):
    """The verbs and nouns, found in the labels of the training clips unless they are given."""

    classes: tuple[str, ...] = Field(
        (), description="K names in the order of the outputs, all verb:NAME before all noun:NAME"
    )
    shares: tuple[float, ...] = Field(
        (), description="share of the training clips that has each class: what chance is"
    )
    action_share: float = Field(
        0.0, ge=0, le=1, description="share of the training clips that has the commonest action"
    )

    @model_validator(mode="after")
    def _verbs_before_nouns(self) -> ActionsConfig:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        wrong = [name for name in self.classes if not name.startswith((VERB, NOUN))]
        if wrong:
            raise ValueError(f"the class {wrong[0]!r} begins with neither {VERB} nor {NOUN}")
        if list(self.classes) != [*self.verbs, *self.nouns]:
            raise ValueError("classes must name all verbs before the nouns")
        if self.shares and len(self.shares) != len(self.classes):
            raise ValueError(f"{len(self.shares)} shares for {len(self.classes)} classes")
        return self

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs, as the manifest calls them: ``verb:open``."""
        return tuple(name for name in self.classes if name.startswith(VERB))

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns, as the manifest calls them: ``noun:door``."""
        return tuple(name for name in self.classes if name.startswith(NOUN))


def action_of(clip: Clip) -> tuple[str, str] | None:
    """Return the verb and the noun of a clip; None where it has not one of each."""
    verbs, nouns = ([n for n in clip.all_labels if n.startswith(kind)] for kind in (VERB, NOUN))
    return (verbs[0], nouns[0]) if len(verbs) == len(nouns) == 1 else None


def _build(config: ActionsConfig) -> zoo.Task:
    from plugins.actions.task import Actions

    return Actions(config)


def _fit(config: ActionsConfig, clips: Sequence[Clip]) -> ActionsConfig:
    """Find the verbs and nouns, and how frequent they are."""
    actions = Counter(action for clip in clips if (action := action_of(clip)) is not None)
    if not actions:
        raise TrainingError(
            "the task 'actions' needs clips with a verb and a noun, labels such as 'verb:open' and "
            "'noun:door', and not one training clip of the manifest has one of each"
        )
    counts = Counter[str]()
    for action, num in actions.items():
        counts.update(dict.fromkeys(action, num))
    classes = config.classes or (
        *sorted(name for name in counts if name.startswith(VERB)),
        *sorted(name for name in counts if name.startswith(NOUN)),
    )
    if len(actions) < 2:
        raise TrainingError(
            f"all training clips show one action, {' '.join(next(iter(actions)))}: there is "
            "nothing to tell apart"
        )
    total = actions.total()
    found = {
        "classes": classes,
        "shares": tuple(round(counts[name] / total, 6) for name in classes),
        "action_share": round(max(actions.values()) / total, 6),
    }
    return ActionsConfig.model_validate({**config.model_dump(), **found})


@zoo.hookimpl
def register_tasks() -> list[zoo.TaskSpec]:
    """Register ``actions``."""
    return [
        zoo.TaskSpec(
            name="actions",
            summary="which action a clip shows: one verb and one noun",
            config_class=ActionsConfig,
            build=_build,
            fit=_fit,
            columns=("labels",),
            class_field="classes",
            example_labels=(
                ("verb:open", "noun:door"),
                ("verb:close", "noun:door"),
                ("verb:open", "noun:tap"),
            ),
            presets={"paper": ActionsConfig(), "tiny": ActionsConfig()},
            scores=(
                zoo.Score(name="action_accuracy", title="action"),
                zoo.Score(name="verb_accuracy", title="verb"),
                zoo.Score(name="noun_accuracy", title="noun"),
                zoo.Score(
                    name="cross_entropy",
                    title="cross-entropy",
                    unit="number",
                    is_higher_better=False,
                ),
            ),
            rank=("action_accuracy", "verb_accuracy", "noun_accuracy"),
            source="arXiv:2006.13256; arXiv:2107.00135 section 4",
            license="MIT",
        )
    ]
