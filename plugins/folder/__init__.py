"""Any folder of videos as a data set."""

from __future__ import annotations

from pydantic import Field, model_validator

import zoo


class FolderConfig(zoo.ComponentConfig):
    """How the videos of a folder are split."""

    valid: float = Field(default=0.1, ge=0, le=1, description="share for validation")
    test: float = Field(default=0.1, ge=0, le=1, description="share for testing")
    seed: int = Field(default=0, description="another seed gives another split")

    @model_validator(mode="after")
    def _shares_fit(self) -> FolderConfig:
        if self.valid + self.test > 1:
            raise ValueError(
                f"valid={self.valid:g} and test={self.test:g} are more than everything"
            )
        return self


def build(config: FolderConfig) -> zoo.DatasetAdapter:
    """Return the adapter."""
    from plugins.folder.adapter import Folder

    return Folder(config)


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register the folder adapter."""
    spec = zoo.DatasetSpec(
        name="folder",
        summary="any folder of videos, searched recursively; split by a hash of the file's name",
        config_class=FolderConfig,
        build=build,
        presets={"paper": FolderConfig(), "tiny": FolderConfig()},
        source="avsync-zoo",
        license="MIT",
    )
    return [spec]
