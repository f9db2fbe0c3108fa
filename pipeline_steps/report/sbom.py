"""An inventory of the software behind a run (SBOM) as CycloneDX JSON."""

import json
import re
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pipeline_steps import artifacts
from pipeline_steps.cli import run_step
from pipeline_steps.errors import UserError


def sbom(lock: Path, inventory: Path, table: Path) -> None:
    """Write what the lock file pins, with hashes and licences, for machines and for people.

    Licences are those that the installed packages declare themselves. Where another version is
    installed than the lock names, the inventory says so. Same environment, same bytes.

    Args:
        lock: requirements with ``==`` and ``--hash``.
        inventory: CycloneDX 1.6 JSON file to write.
        table: Markdown file to write: package, version, licence.

    Raises:
        UserError: the lock file pins nothing.
    """
    components = [_component(*pin) for pin in _pins(lock)]
    if not components:
        raise UserError(f"{lock}: pins no package; write it anew as envs/build.py says")
    about = {
        "type": "application",
        "name": "scoft-pipeline",
        "version": distribution("scoft-pipeline").version,
    }
    content = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([about, components], sort_keys=True))
    head = {"serialNumber": f"urn:uuid:{serial}", "metadata": {"component": about}}
    artifacts.write_text(inventory, json.dumps(content | head, indent=1, sort_keys=True) + "\n")
    rows = [f"| {one['name']} | {one['version']} | {_shown(one)} |\n" for one in components]
    artifacts.write_text(table, "| Package | Version | Licence |\n|---|---|---|\n" + "".join(rows))


def _pins(lock: Path) -> list[tuple[str, str, list[str]]]:
    """Return name, version and SHA-256 sums of each pinned package."""
    text = re.sub(r"^\s*#.*$", "", lock.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", line):
            found.append((pin[1], pin[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", line)))
    return found


def _component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "hashes": [{"alg": "SHA-256", "content": content} for content in hashes],
    }
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return component
    if licence := _licence(installed):
        component["licenses"] = [{"license": {"name": licence}}]
    if installed.version != version:
        component["properties"] = [{"name": "installed", "value": installed.version}]
    return component


def _licence(package: Distribution) -> str:
    """Return what the package says: an SPDX expression, classifiers, or a short free text."""
    facts = package.metadata
    if "License-Expression" in facts:
        return facts["License-Expression"]
    named = [
        value.rpartition(" :: ")[2]
        for value in facts.get_all("Classifier") or []
        if value.startswith("License")
    ]
    text = facts["License"].strip() if "License" in facts else ""
    return ", ".join(named) or (text.splitlines()[0][:80] if text else "")


def _shown(component: dict[str, Any]) -> str:
    if "licenses" not in component:
        return "not stated here"
    return component["licenses"][0]["license"]["name"].replace("|", "/")


if __name__ == "__main__":
    run_step(sbom)
