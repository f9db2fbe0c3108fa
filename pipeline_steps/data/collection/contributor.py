"""Everything that is kept of one contributor: handed out, or deleted."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from pipeline_steps import artifacts
from pipeline_steps.cli import LOG, run_step
from pipeline_steps.errors import UserError, not_installed


def contributor(
    culture: str,
    contributor: str,
    export: Path | None = None,
    delete: bool = False,
    data: Path | None = None,
    database: str = "",
    settings: Path = Path("config/config.yaml"),
) -> None:
    """Write all that is kept of one person into a ZIP file, delete it, or both; the server may go on.

    What was part of the data set is named in its withdrawn list by the picture's content and nothing else,
    so that the report on withdrawn pictures finds what was made from it.

    Args:
        culture: its name in the configuration.
        contributor: the person's pseudonym, such as c-1a2b3c4d.
        export: ZIP file to write: contributor.json, and every picture.
        delete: delete the person, their link, pictures and decisions.
        data: the culture's folder; by default the one that the configuration names.
        database: by default the SQLite file beside the pictures.
        settings: the configuration.

    Raises:
        UserError: there is nobody of this name, or nothing was asked for.
    """
    try:
        from pipeline_steps.data.collection import records
        from pipeline_steps.data.collection.folder import KEPT, ORIGINALS
        from pipeline_steps.data.collection.opening import open_collection
        from pipeline_steps.data.collection.store import NobodyError
    except ImportError as error:
        raise not_installed(error, "survey") from error

    if export is None and not delete:
        raise UserError("nothing was asked for; name a file with --export, or say --delete, or both")
    opened = open_collection(culture, data, database, settings)
    folder, store = opened.folder, opened.store
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with folder.lock:
            kept = records.everything_of(store, contributor).result()
            if export is not None:
                with artifacts.appears_whole(export) as part, zipfile.ZipFile(part, "w") as archive:
                    archive.writestr("contributor.json", json.dumps(kept, ensure_ascii=False, indent=1))
                    for picture in kept["pictures"]:
                        for kind in KEPT:
                            name = picture["picture" if kind == ORIGINALS else "name"]
                            if (path := folder.file(kind, name)).exists():
                                archive.write(path, f"{kind}/{name}")
                LOG.info("%s: %d pictures of %s", export, len(kept["pictures"]), contributor)
            if delete:
                count = records.delete(store, contributor, now).result()
                folder.publish(records.data_set(store).result())
                LOG.info("%s is deleted, with %d pictures", contributor, count)
    except NobodyError:
        raise UserError(f"--contributor {contributor}: there is nobody of this name") from None
    finally:
        store.close()


if __name__ == "__main__":
    run_step(contributor)
