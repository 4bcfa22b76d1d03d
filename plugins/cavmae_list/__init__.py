"""The lists of CAV-MAE (JSON) and AVSiam (SQLite): which classes a clip has."""

from __future__ import annotations

from pydantic import Field, model_validator

import zoo
from zoo.data.labels import LabelledConfig


class CavMaeListConfig(LabelledConfig):
    """Which lists to read; they lie in ``meta``, unless a whole path is given."""

    train_list: str | None = Field(None, description="list of the training clips")
    valid_list: str | None = Field(
        None, description="list of the validation clips, in place of a share of the training clips"
    )
    test_list: str | None = Field(None, description="list of the test clips")
    class_list: str | None = Field(
        None,
        description="names and order of the classes, CSV with index, mid, display_name; by default "
        "class_labels_indices.csv or class_labels_indices_vgg.csv",
    )

    @property
    def holds_out(self) -> bool:
        """Whether some training clips are for validation: not if those have a list."""
        return self.valid_list is None and super().holds_out

    @model_validator(mode="after")
    def _validation_is_one_thing(self) -> CavMaeListConfig:
        if self.valid_list is not None and self.validate_on_test:
            raise ValueError("valid_list and validate_on_test exclude each other")
        return self


def build(config: CavMaeListConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.cavmae_list.adapter import CavMaeList

    return CavMaeList(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register the lists."""
    spec = zoo.DatasetSpec(
        name="cavmae_list",
        summary="lists of CAV-MAE (JSON) or AVSiam (SQLite) with a class list; any folder of clips",
        config_class=CavMaeListConfig,
        build=build,
        presets={"paper": CavMaeListConfig(), "tiny": CavMaeListConfig()},
        source="arXiv:2210.07839; arXiv:2403.19638",
        license="MIT (this reader); lists and videos as their authors say",
    )
    return [spec]
