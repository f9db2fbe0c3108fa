"""Opens a collection: its settings, its files, what is kept."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_steps.config import HUB, PipelineConfig
from pipeline_steps.config.data import Culture
from pipeline_steps.config.files import read_config
from pipeline_steps.data.collection.folder import Folder
from pipeline_steps.data.collection.store import Store
from pipeline_steps.errors import UserError


@dataclass(frozen=True)
class Collection:
    """A culture's collection, opened."""

    config: PipelineConfig
    entry: Culture
    folder: Folder
    store: Store


def open_collection(culture: str, data: Path | None, database: str, settings: Path) -> Collection:
    """Open a culture's collection, and begin it where there is none.

    Args:
        culture: its name in the configuration.
        data: its folder; by default the one that the configuration names.
        database: URL; by default of a SQLite file beside the pictures.
        settings: the configuration.

    Raises:
        UserError: there is no such culture, its pictures are no folder here or not the collection's, or the
            database cannot be opened.
    """
    config = read_config(settings)
    if culture not in config.cultures:
        raise UserError(
            f"{settings}: no culture '{culture}'; add it with: python -m pipeline_steps.new_culture "
            f"--name {culture} --suffix ', in …'"
        )
    entry = config.cultures[culture]
    if data is None and (str(entry.images).startswith(HUB) or entry.images.suffix):
        where = f"{settings}: cultures.{culture}.images"
        raise UserError(f"{where}: is '{entry.images}', no folder; name a folder with --data")
    own = entry.own_list if data is None else None
    if entry.withdrawn and own and entry.withdrawn.resolve() != own.resolve():
        raise UserError(
            f"{settings}: cultures.{culture}.withdrawn: is '{entry.withdrawn}', and the collection writes "
            f"{own}; leave the setting out, so that the pipeline reads that one"
        )
    folder = Folder(data or entry.images, config.data.caption_column)
    return Collection(
        config, entry, folder, Store(database or f"sqlite:///{folder.home / 'collection.sqlite'}")
    )
