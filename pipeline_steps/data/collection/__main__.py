"""``python -m pipeline_steps.data.collection``: let people give pictures until stopped."""

from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.cli import LOG, run_step
from pipeline_steps.data.checks import culture_names, name_in
from pipeline_steps.errors import UserError, not_installed

EVERYWHERE = ("0.0.0.0", "::")
"""Addresses to listen on that stand for all of a machine's, and that no link can lead to."""
FIRST = 5
"""Links that are made where nobody was invited yet: the paper's least number of contributors."""


def collection(
    culture: str,
    data: Path | None = None,
    database: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    address: str = "",
    invite: int = 0,
    renew_curator: bool = False,
    keep_originals: bool = False,
    wordings: Sequence[Path] = (),
    curator_wording: Path | None = None,
    proxies: Sequence[str] = (),
    requests_per_minute: int = 300,
    settings: Path = Path("config/config.yaml"),
) -> None:
    """Serve the page through which people give a culture's pictures, and the curator's page.

    What the curator accepts is in the culture's folder at once, as the pipeline reads it. Everything else
    lies beside it in ``<folder>.collection``. Put a proxy with HTTPS before it when it is reached from afar.

    Args:
        culture: its name in the configuration.
        data: its folder; by default the one that the configuration names.
        database: by default a SQLite file in ``<folder>.collection``; or
            postgresql+psycopg://USER:PASSWORD@HOST/NAME.
        host: address to listen on.
        port: port to listen on.
        address: of the pages as people open them, such as https://pictures.example.org; it begins the links.
            Beside a server that runs it is that server's, unless it is given.
        invite: personal links to make and print, also while a server runs; five where nobody was invited yet.
        renew_curator: give the curator's page a new address, also while a server runs; the old one opens
            nothing any more.
        keep_originals: keep the files as they were sent as well, with position and camera.
        wordings: files of the sentences that contributors read, one a language, the first one first.
        curator_wording: file of the sentences of the curator's page; by default they are English.
        proxies: addresses or networks of proxies whose X-Forwarded-For is believed.
        requests_per_minute: a contributor may make; an address may make four times as many for newcomers.
        settings: the configuration: the culture, its model, what is read of a picture.

    Raises:
        UserError: the culture is not in the configuration, its folder holds other pictures, a server has it
            already, the port is taken, the database or a file cannot be opened, or links would lead nowhere.
    """
    try:
        from pipeline_steps.data.collection import records
        from pipeline_steps.data.collection.app import create_app
        from pipeline_steps.data.collection.captions import captions_for
        from pipeline_steps.data.collection.intake import Intake
        from pipeline_steps.data.collection.opening import open_collection
        from pipeline_steps.data.collection.secret import Secret
        from pipeline_steps.data.collection.site import Site
        from pipeline_steps.data.collection.wording import (
            CURATOR,
            WORDINGS,
            read_curator_wording,
            read_wordings,
        )
        from pipeline_steps.web.gate import limits
        from pipeline_steps.web.serving import listen, serve
    except ImportError as error:
        raise not_installed(error, "survey") from error

    if host in EVERYWHERE and not address:
        raise UserError(
            f"--host {host}: the links must say where this machine is found; give --address as well, e.g. "
            f"--address http://192.168.0.10:{port}"
        )
    opened = open_collection(culture, data, database, settings)
    config, entry, folder, store = opened.config, opened.entry, opened.folder, opened.store
    first = folder.begin_serving()
    if not first and not (invite or renew_curator):
        raise UserError(
            f"{folder.home}: a server has it already; stop that one first, or let it run and make further "
            "links with --invite 10"
        )
    listener = listen(host, port) if first else None
    address = address or ("" if first else folder.where()) or f"http://{host}:{port}"
    secret = Secret(folder.home / "curator")
    if renew_curator:
        secret.renew()
    site = Site(
        entry.name or name_in(entry.suffix),
        store,
        folder,
        Intake(config.data),
        captions_for(
            config.models.base, culture_names(culture, entry.name or "", entry.suffix), entry.suffix
        ),
        read_wordings(wordings or WORDINGS),
        read_curator_wording(curator_wording or CURATOR),
        secret,
        address.rstrip("/"),
        keep_originals,
        config.data.allowed_hosts,
        **limits(requests_per_minute),
    )
    for _ in range(invite if records.everybody(store).result() else invite or FIRST):
        name, link = store.invite("", site.time()).result()
        LOG.info("personal link of %s: %s", name, site.link(link))
    LOG.info("the curator's page, for nobody else: %s", site.curator_link())
    if listener is None:
        LOG.info("%s: a server has it already, and goes on", folder.home)
        return
    folder.say_where(site.address)
    LOG.info("collecting for '%s' into %s on %s", culture, folder.data, site.address)
    serve(create_app(site), listener, proxies)


if __name__ == "__main__":
    run_step(collection)
