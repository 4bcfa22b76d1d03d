"""The models that can be chosen, as the catalog and the plugins are at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.memory import total_bytes
from zoo.catalog.entries import CatalogEntry, read_catalog, read_description
from zoo.errors import ModelError, PluginError, ZooError, suggest
from zoo.registry.manager import registry
from zoo.registry.plugin_files import missing_plugin

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Offer:
    """A model that predicts offsets.

    Attributes:
        name: in the catalog.
        entry: what the catalog says of it.
        is_here: it needs no download.
        problem: why it cannot run here, or empty.
        parameters: number of weights; None before it is here.
    """

    name: str
    entry: CatalogEntry
    is_here: bool
    problem: str
    parameters: int | None

    @property
    def is_ready(self) -> bool:
        """Whether it can be used at once."""
        return self.is_here and not self.problem

    def card(self) -> dict[str, Any]:
        """Return what one should know before one trusts it, as JSON types."""
        facts = self.entry.model_dump(
            include={"summary", "trained_on", "scores", "license", "source", "recipe"}
        )
        return {
            "name": self.name,
            "is_here": self.is_here,
            "problem": self.problem,
            "parameters": self.parameters,
            **facts,
        }


def read_offers() -> dict[str, Offer]:
    """Return every model of the catalog that predicts offsets, by name.

    Raises:
        ModelError: if a catalog cannot be read.
    """
    offers = {}
    for name, (entry, path) in read_catalog().items():
        offer = _offer(name, entry, path) if entry.kind == "model" else None
        if offer is not None:
            offers[name] = offer
    return offers


def find_offer(name: str | None) -> Offer:
    """Return a model that can be used at once.

    Raises:
        ModelError: if there is none of this name, or it must be pulled first, or cannot run here.
    """
    if not name:
        raise ModelError("there is no model yet: choose one")
    offers = read_offers()
    if name not in offers:
        raise ModelError(f"no model '{name}' is offered here{suggest(name, offers)}")
    offer = offers[name]
    if offer.problem:
        raise ModelError(f"'{name}' cannot run here: {offer.problem}")
    if not offer.is_here:
        raise ModelError(f"'{name}' is not on this server yet: pull it first")
    return offer


def _offer(name: str, entry: CatalogEntry, path: Path) -> Offer | None:
    """Return an offer, or None if the model answers something else than an offset."""
    if not path.exists():
        return _absent(name, entry)
    try:
        description = read_description(path)
        config, parameters = description["config"], int(description["parameters"])
        head = config.get("head")
    except (ZooError, AttributeError, KeyError, TypeError, ValueError):
        return Offer(name, entry, True, "its folder is damaged", None)
    try:
        if head is None or registry().head(head["name"]).task != "offset":
            return None
        for tower in (config["audio"], config["vision"]):
            registry().extractor(tower["extractor"]["name"])
            registry().aggregator(tower["aggregator"]["name"])
    except PluginError as error:
        told = missing_plugin(error, path, description.get("plugins", {}))
        return Offer(name, entry, True, str(told), parameters)
    needed = BYTES_PER_WEIGHT * parameters
    problem = ""
    if needed > total_bytes():
        problem = f"its weights take {needed / 1e9:.1f} GB, more memory than there is"
    return Offer(name, entry, True, problem, parameters)


def _absent(name: str, entry: CatalogEntry) -> Offer | None:
    if entry.download is None:
        return Offer(name, entry, False, "the folder that the catalog names is not there", None)
    layout = registry().formats.get(entry.download.format)
    if layout is None:
        problem = f"no plugin knows the layout '{entry.download.format}' of its weights"
        return Offer(name, entry, False, problem, None)
    return Offer(name, entry, False, "", None) if layout.task == "offset" else None
