"""What the pages say can be done, done at tiny size: every command, every target, every flag they name.

Commands are collected from the pages themselves. Each stands in one table below with the way it is run, or
in ``NOT_RUN`` with the reason why not; one that stands in neither fails, and so does an entry that no page
has any more. Commands run in the order of the tables, in one folder that holds what a clone holds, so that
most files that a command names are made by the ones before it.
"""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from tests import ROOT
from tests.data.collection_world import Curator, Person, photo
from tests.models.test_fetch_models import Hub
from tests.ports import free_port
from tests.warm_python import WarmPython

PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "config/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
PATIENCE = 1200
"""Seconds after which a command counts as hanging."""

# --- what the pages hold ----------------------------------------------------------------------

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:apptainer|apt-get|cp|curl|docker|echo|export|hf|mkdir|pip|pip-audit|pytest|python3?|snakedeploy|snakemake"
    r"|tensorboard) \S"
)


def lines(block: str) -> list[str]:
    """A block's commands: continued lines joined, comments and blank lines left out."""
    whole = (re.sub(r"(^|\s)#\s.*", "", line) for line in block.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in whole if line.strip()]


def inline(text: str) -> list[str]:
    """Everything between backticks outside of fenced blocks."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def commands() -> dict[str, str]:
    """Every command of every page: its text to the first page that has it."""
    found = {}
    for page in PAGES:
        text, here = page.read_text(), []
        for language, block in FENCE.findall(text):
            if language in ("bash", "sh") or (not language and COMMAND.match(block.strip())):
                here += lines(block)
        indented = re.findall(r"^ {4}(\S.*)$", FENCE.sub("", text), re.MULTILINE)
        here += [code for code in (*indented, *inline(text)) if COMMAND.match(code)]
        for command in here:
            found.setdefault(command, str(page.relative_to(ROOT)))
    return found


def named_files() -> set[str]:
    """Every file or folder below results/ that a page names, placeholders filled in, {a,b} one by one."""
    fill = {"{culture}": "korea", "<culture>": "korea", "{run}": "seed2", "{set}": "train_prompts", "…": ""}
    found = set()
    for code in (code for page in PAGES for code in inline(page.read_text())):
        if re.fullmatch(r"results/\S*", code):
            for old, new in fill.items():
                code = code.replace(old, new)
            start, *choices = re.split(r"\{(.+?)\}", code, maxsplit=1)
            found |= {start + choice + choices[1] for choice in choices[0].split(",")} if choices else {start}
    return found


# --- the folder -------------------------------------------------------------------------------

TINY = {
    "threads": 1,
    "models": {"dino": {"path": "tiny/dino"}},  # the local hub's
    "caption": {"captions_per_image": 2, "max_new_tokens": 4},
    "negatives": {"per_positive": 2, "steps": 2},
    "filter": {"min_distance": 0.0},
    "train": {"updates": 2, "batch_size": 2, "perceptual_every": 2, "denoising": {"steps": 1}},
    "sample": {"images_per_prompt": 5, "steps": 2},
    "score": {"neighbours": 1},
    "evaluation": {"train_prompts": 2, "coco_pictures": 4, "fig7_updates": [2], "fig7_cultures": ["korea"]},
    "survey": {
        "cultures": ["india", "korea"],
        "pages": 4,
        "pages_per_participant": 2,
        "simulation": {"participants": 4, "power_trials": 2, "power_participants": [5]},
    },
    "runs": {"seed2": {"seed": 2}},
}
STUDY = {
    "embedded_order.yaml": {"sample": TINY["sample"], "study": {"seeds": ["seed2"]}},
    "embedded_study.yaml": {
        "runs": {"half": {"train": {"updates": 1}}},
        "study": {"seeds": ["seed2"], "lengths": ["half"]},
    },
}
CONTROLS = {"mp_pc", "dreamsim", "dpo"}
"""A share of its own, another extractor, another kind of variant."""


def few(name: str, folder: Path, train: int, test: int) -> None:
    """Copy the first pictures of an embedded data set."""
    source, target, left = ROOT / name, folder / name, {"train": train, "test": test}
    kept = []
    for row in map(json.loads, (source / "metadata.jsonl").read_text().splitlines()):
        split = row.get("split", "test")
        if left[split]:
            left[split] -= 1
            kept.append(json.dumps(row) + "\n")
            (target / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / row["file_name"], target / row["file_name"])
    (target / "metadata.jsonl").write_text("".join(kept))


def lay_out(folder: Path) -> None:
    """What a clone holds: its settings tiny, its data sets short, of its drawn cultures the ones named."""
    for name in ("workflow", "config", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(
        ROOT / "resources", folder / "resources", ignore=shutil.ignore_patterns("ccub", "coco", "named")
    )
    for name in ("pipeline_steps", "tests", "benchmarks", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "profiles").symlink_to((ROOT / "profiles").readlink())
    for name in ("Snakefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for culture in ("india", "korea", "nigeria"):
        for collection in ("ccub", "named"):
            few(f"resources/mini/{collection}/{culture}", folder, 3, 4)
    few("resources/mini/coco", folder, 0, 6)
    (folder / "resources/prompts/mini_generic.txt").write_text("a red house\na jar\n")
    (folder / "resources/prompts/mini.csv").write_text("prompt,category\na red house,house\na jar,jar\n")
    presets = folder / "config/presets"
    for path in ("drawn.yaml", "embedded_named.yaml"):
        drawn = yaml.safe_load((presets / path).read_text())
        drawn["cultures"] = {name: drawn["cultures"][name] for name in ("india", "korea")}
        (presets / path).write_text(yaml.safe_dump(drawn | {"sample": TINY["sample"]}))
    for path, changes in STUDY.items():
        study = yaml.safe_load((presets / path).read_text())
        controls = study["study"]["controls"]
        study["study"]["controls"] = {
            name: controls[name] | {"seeds": []} for name in CONTROLS & controls.keys()
        }
        study["study"]["pairs"] = [["dpo", "mp_pc"]] if "dpo" in controls else []
        (presets / path).write_text(yaml.safe_dump(laid_over(study, changes)))
    (folder / "config/config.yaml").write_text(
        (ROOT / "config/config.yaml").read_text() + yaml.safe_dump(TINY)
    )


def laid_over(settings: dict, changes: dict) -> dict:
    """Settings with some replaced, at any depth."""
    return settings | {
        key: laid_over(settings[key], value) if isinstance(value, dict) and key in settings else value
        for key, value in changes.items()
    }


class World:
    """The folder, a project beside it, a hub with one small model, and a shell in which they are known."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.project = folder / "repository", folder / "pictures"
        folder = self.folder
        folder.mkdir()
        self.hub = Hub()
        threading.Thread(target=self.hub.serve_forever, daemon=True).start()
        dino = ROOT / "resources/mini/dino"
        self.hub.repos["tiny/dino"] = {path.name: path.read_bytes() for path in dino.iterdir()}
        lay_out(folder)
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        self.warm = WarmPython(folder / "warm", self.environment)
        self.open = contextlib.ExitStack()
        self.port = free_port()
        self.seen: set[str] = set()

    def close(self) -> None:
        self.open.close()
        self.warm.__exit__()
        self.hub.shutdown()

    def start(self, text: str, warm: bool = True, folder: Path | None = None) -> subprocess.Popen:
        """Start a command in bash, in a process group of its own."""
        first = self.warm.path if warm else Path(sys.executable).parent
        path = f"{first}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", "-c", text], cwd=folder or self.folder, env=self.environment | {"PATH": path}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip

    def run(self, text: str, warm: bool = True, folder: Path | None = None) -> str:
        """Run a command; it must succeed, and the results that it names must be there."""
        process = self.start(text, warm, folder)
        try:
            output = process.communicate(timeout=PATIENCE)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0 and "Traceback" not in output, f"{text}\n{output[-4000:]}"
        if "snakemake " in text and " -n" not in text:
            made = [(folder or self.folder) / word for word in text.split() if word.startswith("results/")]
            assert all(path.exists() for path in made), f"{text}\nleaves less than it names\n{output[-4000:]}"
        for root in (self.folder, self.project):
            self.seen |= {name for name in named_files() if (root / name).exists()}
        return output

    @contextlib.contextmanager
    def serving(self, text: str, address: str, folder: Path | None = None) -> Iterator[Callable[[], str]]:
        """Run a command until it serves an address, and end it afterwards as Ctrl-C does.

        Yields a function that returns what was printed, where a folder is given.
        """
        log = (folder or self.folder) / "served.log"
        process = self.start(f"{text} > {log} 2>&1" if folder else text, folder=folder)
        until = time.monotonic() + PATIENCE
        try:
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{self.port}{address}", timeout=10).close()
                    break
                if process.poll() is not None or time.monotonic() > until:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise AssertionError(f"{text}\nserves nothing\n{process.communicate()[0][-4000:]}")
                time.sleep(0.1)
            yield lambda: log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
                process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("pages"))
    yield world
    world.close()


# --- how a command is run ---------------------------------------------------------------------


def nothing(world: World) -> None:
    """No preparation."""


class As(NamedTuple):
    """How a command is run: as it is written, but for pieces that are replaced, after a preparation."""

    replaced: Mapping[str, str] = MappingProxyType({})
    before: Callable[[World], None] = nothing
    by: Callable[[World, str], object] = World.run

    def run(self, world: World, text: str) -> None:
        for old, new in self.replaced.items():
            assert old in text
            text = text.replace(old, new)
        self.before(world)
        self.by(world, text)


WRITTEN = As()
DRY = As({"snakemake ": "snakemake -n "})
"""What a cluster would be asked for; tests/slurm asks a real one."""


def cold(world: World, text: str) -> None:
    """With an interpreter of its own for each step."""
    world.run(text, warm=False)


def settings_for_once(world: World) -> None:
    (world.folder / "more.yaml").write_text("train: {updates: 1}\n")


def in_project(world: World, text: str) -> None:
    """In the folder where people work."""
    world.run(text, folder=world.project)


def project(world: World) -> None:
    """Begin the project where no command did, and make its settings tiny."""
    if not world.project.exists():
        world.run("python -m pipeline_steps.new_project ../pictures")
    path = world.project / "config/config.yaml"
    settings = {name: section for name, section in TINY.items() if name not in ("models", "runs", "survey")}
    if "threads" not in yaml.safe_load(path.read_text()):
        path.write_text(path.read_text() + yaml.safe_dump(settings))


def another_drawn_culture(world: World) -> None:
    """A culture that the all-embracing targets before it did not have to be made for."""
    nigeria = yaml.safe_load((ROOT / "config/presets/drawn.yaml").read_text())["cultures"]["nigeria"]
    path = world.folder / "config/config.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(settings | {"cultures": {"nigeria": nigeria}}))


def pictures_of_wales(world: World) -> None:
    """Put pictures and captions where the page says they go."""
    source, folder = ROOT / "resources/mini/ccub/mexico", world.project / "data/wales"
    if not (folder / "metadata.csv").exists():
        project(world)
        in_project(world, 'python -m pipeline_steps.new_culture --name wales --suffix ", in Wales"')
    if any((folder / "pictures").iterdir()):
        return
    columns = (folder / "metadata.csv").read_text().strip().split(",")
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    with (folder / "metadata.csv").open("a", newline="") as file:
        for row in [*train[:3], *test[:4]]:
            name = f"pictures/{Path(row['file_name']).name}"
            shutil.copy(source / row["file_name"], folder / name)
            table = csv.DictWriter(file, columns)
            table.writerow({"file_name": name, "text": row["text"], "split": row["split"]})


def collect(world: World, text: str) -> None:
    """Give, accept and so lay out the pictures of wales as its contributors and curator do; then stop."""
    world.port = free_port()
    command = f"{text} --port {world.port}"
    with world.serving(command, "/healthz", world.project) as printed:
        while "the curator's page" not in printed():
            time.sleep(0.1)
        links = re.findall(r"#link=(\S+)", printed())
        address = f"http://127.0.0.1:{world.port}"
        people = [Person(httpx.Client(base_url=address, timeout=60), link) for link in links]
        given = [people[n % len(people)].give(photo(n, (160, 120))) for n in range(8)]
        key = (world.project / "data/wales.collection/curator").read_text().strip()
        Curator(httpx.Client(base_url=address, timeout=60), key).decide("accepted", *given)
    assert len(list((world.project / "data/wales/pictures").iterdir())) == 8


def forget_somebody(world: World, text: str) -> None:
    """Somebody who was invited and gave nothing: what the others gave is trained on."""
    database = world.project / "data/wales.collection/collection.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        given = "SELECT contributor FROM picture"
        nobody = f"SELECT contributor FROM contributor WHERE contributor NOT IN ({given})"
        connection.execute("INSERT INTO contributor VALUES ('c-idle', 'x', '', '2030', NULL, NULL)")
        connection.commit()
        (name,) = connection.execute(nobody).fetchone()
    in_project(world, text.replace("c-1a2b3c4d", name))
    assert (world.project / "one.zip").exists()


def one_withdrawn(world: World) -> None:
    pictures_of_wales(world)
    name = next((world.project / "data/wales/pictures").iterdir()).name
    with (world.project / "data/wales/withdrawn.txt").open("a") as file:
        file.write(f"pictures/{name}\n")


def answers_of_people(world: World) -> None:
    """Three people's answers to every page, as a table."""
    items = ("description", "representation", "stereotypes", "offensiveness")
    with (world.folder / "answers/people.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["participant", "culture", "page", "item", "picture", "rank"])
        for culture in ("india", "korea"):
            pages = pq.read_table(world.folder / f"results/survey/{culture}/pages.parquet").to_pylist()
            shown = {}
            for row in pages:
                shown.setdefault(row["page"], []).append(row["picture"])
            for person in ("a", "b", "c"):
                for page, pictures in shown.items():
                    for item in items:
                        for rank, picture in enumerate(pictures, 1):
                            table.writerow([f"{culture}-{person}", culture, page, item, picture, rank])


def keep_variable(world: World, text: str) -> None:
    """Let the commands that follow see what is exported."""
    name = re.match(r"export (\w+)=", text)[1]
    world.environment[name] = world.run(f"{text}; printenv {name}").strip()
    assert len(world.environment[name]) >= 32


def serve_survey(world: World, text: str) -> None:
    """Let it serve until the answers are fetched."""
    world.open.enter_context(world.serving(f"{text} --port {world.port}", "/healthz"))


def fetch_answers(world: World, text: str) -> None:
    world.run(text.replace(":8000", f":{world.port}"))
    assert pq.read_table(world.folder / "answers/server.parquet").num_rows == 0
    world.open.close()


def asked(world: World, path: str) -> str:
    """What the server says that is running."""
    return urllib.request.urlopen(f"http://127.0.0.1:{world.port}{path}", timeout=PATIENCE).read().decode()


def serve_trial(world: World, text: str) -> None:
    world.port = free_port()
    with world.serving(f"{text} --port {world.port}", "/"):
        page = asked(world, "/config")
    assert "SCoFT+MPC" in page and "korea" in page


def serve_boards(world: World, text: str) -> None:
    world.port = free_port()
    with world.serving(f"{text} --port {world.port}", "/data/runs"):
        until, runs = time.monotonic() + PATIENCE, []
        while not any("korea" in run for run in runs):  # they are read while it serves
            assert time.monotonic() < until, runs
            runs = json.loads(asked(world, "/data/runs"))
            time.sleep(0.1)


INSTALL = {"install .": "install . --no-deps --no-build-isolation --target installed"}
"""Without the packages it needs, which come from the index, and beside those of this interpreter."""

ORDER_RUN = "snakemake --cores 2 --configfile config/presets/embedded_order.yaml"
STUDY_RUN = "snakemake --cores 2 --configfile config/presets/embedded_study.yaml"
RUN = {
    "snakemake --cores 1 models": WRITTEN,
    "snakemake -n": WRITTEN,
    "snakemake --cores 1 plan": WRITTEN,
    "snakemake --cores 1 -- plan": WRITTEN,
    "python3 -m venv .venv && . .venv/bin/activate": WRITTEN,
    "python -m pip install . && snakemake --cores 8 results/korea/lora.safetensors": As(INSTALL),
    "snakemake --cores 8 results/korea/lora.safetensors": WRITTEN,
    "snakemake --cores 8 results/korea/scores.parquet": WRITTEN,
    "snakemake --cores 8 results/report.html": WRITTEN,
    "snakemake --cores 8 results/korea/hub": WRITTEN,
    "snakemake --cores 8 results/table1.csv results/table2.csv": WRITTEN,
    "snakemake --cores 8 results/figures/fig7.svg": WRITTEN,
    "snakemake --cores 8 results/bleed.csv": WRITTEN,
    "snakemake --report results/snakemake_report.html results/report.html results/table1.csv": WRITTEN,
    "snakemake --cores 8 results/korea/runs/seed2/scores/scoft_mpc.parquet": WRITTEN,
    f"{ORDER_RUN} -- results/embedded_world.csv": As(
        {"results/embedded_world.csv": "results/korea/runs/mp_pc/scores/scoft_mp.parquet"}  # all of it below
    ),
    f"{STUDY_RUN} -- results/embedded_world.csv": WRITTEN,
    f"{STUDY_RUN} -- results/figures/curves.html": WRITTEN,
    "snakemake --cores 2 --configfile config/presets/embedded_named.yaml -- results/named/table2.csv": As(
        # the table itself is made above, of other pictures
        {"results/named/table2.csv": "results/named/korea/ablations/ldm/lora.safetensors"}
    ),
    "tensorboard --logdir results": As(by=serve_boards),
    "python -m pipeline_steps.evaluation.try_page --threads 8": As(by=serve_trial),
    "python -m pipeline_steps.evaluation.try_page --gpus 1": As({"--gpus 1": "--help"}),
    # the survey
    "snakemake --cores 8 results/survey/people.html": WRITTEN,
    "snakemake --cores 8 results/survey/simulated/report.html": WRITTEN,
    "snakemake --cores 8 results/survey/simulated/agreement.html": WRITTEN,
    "snakemake --cores 8 results/survey/korea/survey.html": WRITTEN,
    'export SURVEY_ADMIN_TOKEN=$(python -c "import secrets; print(secrets.token_urlsafe(32))")': As(
        by=keep_variable
    ),
    "echo $SURVEY_ADMIN_TOKEN": WRITTEN,
    "python -m pipeline_steps.survey.server …": As({"…": "--help"}),
    "python -m pipeline_steps.survey_server": As({"server": "server --help"}),
    "python -m pipeline_steps.survey.server": As(by=serve_survey),
    "python -m pipeline_steps.survey.survey_codes --count 40 --url https://survey.example.org/": WRITTEN,
    "mkdir answers": WRITTEN,
    "mkdir -p answers": WRITTEN,
    'curl --fail -H "Authorization: Bearer $SURVEY_ADMIN_TOKEN" localhost:8000/admin/answers.parquet '
    "-o answers/server.parquet": As(by=fetch_answers),
    "snakemake --cores 8 results/survey/report.html": As(before=answers_of_people),
    "snakemake --cores 8 results/survey/agreement.html": WRITTEN,
    # one culture more
    "CUDA_VISIBLE_DEVICES=2,3 snakemake ...": As(
        {"...": "--cores 8 results/nigeria/depth.parquet"}, another_drawn_culture
    ),
    "snakemake --cores 8 results/nigeria/figures/samples.png": WRITTEN,
    "python -m pipeline_steps.new_project ../pictures && cd ../pictures": WRITTEN,
    'python -m pipeline_steps.new_culture --name wales --suffix ", in Wales"': As(
        before=project, by=in_project
    ),
    "python -m pipeline_steps.data.collection --culture wales": As(by=collect),
    "python -m pipeline_steps.data.collection.contributor --culture wales --contributor c-1a2b3c4d "
    "--export one.zip --delete": As(by=forget_somebody),
    "snakemake --cores 8 results/wales/data_report.html": As(before=pictures_of_wales, by=in_project),
    "snakemake --cores 8 results/wales/lora.safetensors": As(before=pictures_of_wales, by=in_project),
    "snakemake --cores 1 results/wales/lora_kohya.safetensors": As(before=pictures_of_wales, by=in_project),
    # with links: tests/data/test_data_workflow.py
    "snakemake --cores 8 -R download -- results/wales/lora.safetensors": As(
        before=pictures_of_wales, by=in_project
    ),
    "python -m pipeline_steps.new_project DIR": As({"DIR": "../another"}),
    "snakemake --cores 8 --snakefile REPOSITORY/workflow/Snakefile --directory DIR": As(
        {"REPOSITORY": str(ROOT), "DIR": "../another results/korea/images.parquet"}
    ),
    # many cores, GPUs, clusters
    "snakemake --cores 32 --resources gpu=4 -- results/korea/lora.safetensors": WRITTEN,
    "cp -r profiles/slurm my_slurm": WRITTEN,
    "snakemake --profile my_slurm results/korea/lora.safetensors": DRY,
    # the project itself
    'python -c "from pipeline_steps.home import HOME; print(HOME)"': WRITTEN,
    "snakemake --cores 1 sbom": WRITTEN,
    "snakemake --unlock": WRITTEN,
    "python -m pipeline_steps.config.reference": WRITTEN,
    "python -m tests.fuzz --seconds 3600": As({"3600": "1"}),
    "python -m tests.fuzz --only data --seconds 3600 --seed 42": As({"3600": "1"}),
    "python -m tests.fuzz --only answers --seconds 3600 --seed 43": As({"3600": "1"}),
    "python benchmarks/plan.py": As({"plan.py": "plan.py 1"}),
    "python benchmarks/overhead.py results/korea/lora.safetensors": As(
        {"lora.safetensors": "images.parquet"}, by=cold
    ),
    "python -m benchmarks.collection": As({"collection": "collection --people 2 --pictures 2 --side 300"}),
    "python -m benchmarks.coverage scores": As({"scores": "scores --trials 2"}),
    "python -m benchmarks.coverage survey": As({"survey": "survey --trials 2"}),
    "snakemake --cores 8 --config results=results/noise 'negatives={structure: noise, strength: 0.7}' "
    "-- results/noise/korea/negatives.parquet": WRITTEN,
    "python -m benchmarks.negatives results/korea results/noise/korea": WRITTEN,
    "python -m benchmarks.looks": As({"looks": "looks --pictures 2 --count 4"}),
    "snakemake --cores 8 --configfile config/presets/drawn_flow.yaml "
    "-- results/flow/korea/scores.parquet": WRITTEN,
    "python -m benchmarks.kid_power": As({"kid_power": "kid_power --pool 20 --draws 2"}),
    "python -m benchmarks.report": As({"report": "report --cultures 1 --variants 2 --sets 1 --side 64"}),
    "python -m benchmarks.scoring": As({"scoring": "scoring --generated 20 --real 10 --threads 1"}),
    "python -m benchmarks.survey_server": As(
        {"survey_server": "survey_server --people 2 --pages 1 --arrive 1 --think 0.1"}
    ),
    "python -m benchmarks.train_step": As({"train_step": "train_step --dry"}),
}
LONG = {
    # half a minute each: tests/reliability/test_long_commands.py runs them
    "python -m pipeline_steps.mini.validate": As({"validate": "validate --pictures 32 --generated 2"}),
    "python -m tests.screenshots": WRITTEN,
    "python -m tests.kill_harness --points 50": As({"50": "1"}),
}
LAST = {
    # what they leave makes files of those above outdated, or takes them away
    "snakemake --cores 8 --config results=results/other seed=7 "
    "-- results/other/korea/lora.safetensors": WRITTEN,
    "snakemake --cores 8 --config results=results/other -- <target>": As(
        {"<target>": "results/other/korea/images.parquet"}
    ),
    "snakemake --cores 8 --configfile more.yaml -- <target>": As(
        {"<target>": "results/korea/lora.safetensors"}, settings_for_once
    ),
    "snakemake --cores 8 -R caption -- results/india/captions.parquet": WRITTEN,
    "snakemake --cores 1 withdraw_report": As(before=one_withdrawn, by=in_project),
    "snakemake --cores 1 purge_negatives": WRITTEN,
    "python -m pipeline_steps.mini.build": WRITTEN,
}

INDEX = "wants a package index"
CLUSTER = "wants a Slurm; tests/slurm has one"
IMAGE = "wants a container's tools and a package index"
STORE = "wants an object store; tests/deploy has one"
GPU = "wants a GPU; tests/training/test_gpu_benchmark.py runs its code at tiny size"
REAL_SIZE = "an hour and 15 GB; tests/models/test_published_layout.py loads such models at tiny width"
NOT_RUN = {
    "python -m benchmarks.gpu": GPU,
    "python -m benchmarks.gpu sd15 --out found.json": GPU,
    "python -m benchmarks.gpu sdxl_ldm --out found.json": GPU,
    "python -m benchmarks.gpu cap --out found.json": GPU,
    "python -m benchmarks.gpu zimage --out found.json": GPU,
    "python -m pip install '.[test]' && pytest": f"{INDEX}, and is what runs this test",
    "python -m pip install ADDRESS_OR_FOLDER": f"{INDEX}; `pip install .` above is one",
    "python -m build": f"{INDEX}; tests/deploy builds a wheel",
    "pytest tests/deploy": f"{INDEX}, and is a test",
    "snakedeploy deploy-workflow ADDRESS DIR --tag TAG": "wants snakedeploy; tests/deploy has it",
    "docker build -f envs/Dockerfile -t scoft .": IMAGE,
    "apptainer build scoft.sif docker-daemon://scoft:latest": IMAGE,
    "pytest tests/slurm": CLUSTER,
    "pytest tests/reliability tests/mini": "takes minutes, and is a test",
    "pytest -m slow": "half a gigabyte a checkpoint, minutes",
    "pytest -n 0 tests/real_size": REAL_SIZE,
    "python -m tests.real_size.build sd15 FOLDER": REAL_SIZE,
    "python -m tests.real_size.chain sd15 FOLDER": REAL_SIZE,
    "python -m tests.real_size.chain sdxl FOLDER": REAL_SIZE,
    "pip install --require-hashes -r envs/requirements.lock": INDEX,
    "pip-audit --require-hashes --disable-pip -r envs/requirements.lock": INDEX,
    "python -m pip install 'scoft-pipeline[s3]'": INDEX,
    "python -m pip install 'scoft-pipeline[survey]'": INDEX,
    "python -m pip install 'scoft-pipeline[try]'": INDEX,
    "python -m pip install pillow-heif": INDEX,
    "pip install wandb": INDEX,
    "pip install bitsandbytes": INDEX,
    "apt-get install slurmctld slurmd slurm-client munge": "wants a package index and root",
    "snakemake --default-storage-provider s3 --default-storage-prefix s3://bucket/scoft ...": STORE,
    "python -m tests.slurm.mini_slurm /tmp/slurm": CLUSTER,
    "python -m benchmarks.two_nodes": CLUSTER,
    "hf auth login": "wants an account on the hub",
    "hf upload": "wants an account on the hub",
    "hf upload NAME/scoft-wales results/wales/hub": "wants an account on the hub",
}
NOT_MADE = {
    "results/wales/download/failures.csv": "links are tried by tests/data/test_download.py",
    "results/wales/download/withdrawn.tsv": "links are tried by tests/data/test_download.py",
    "results/korea/download/failures.csv": "links are tried by tests/data/test_download.py",
    "results/korea/merged/": "tests/reliability/test_reliability.py runs the chain with shards: 2",
    "results/korea/shards/": "tests/reliability/test_reliability.py runs the chain with shards: 2",
}

# --- tests ------------------------------------------------------------------------------------


def test_every_command_of_the_pages_is_run_or_says_why_not():
    found, known = commands(), [*RUN, *LONG, *LAST, *NOT_RUN]
    new = [f"{page}: {text}" for text, page in found.items() if text not in known]
    assert not new, (
        "no test runs them: add them to RUN, LONG or LAST with the way, or to NOT_RUN with the reason"
    )
    assert not [text for text in known if text not in found], "no page has them any more: take them out"
    assert len(known) == len(set(known)) and all(NOT_RUN.values())


@pytest.mark.parametrize("text", RUN)
def test_command(world, text):
    RUN[text].run(world, text)


def test_every_result_that_a_page_names_is_made(world):
    named = named_files()
    assert len(named) > 25 and set(NOT_MADE) <= named
    left = sorted(named - set(NOT_MADE) - world.seen - {"results/withdraw_report.tsv"})
    world.run("snakemake --cores 8 " + " ".join(left))
    assert all((world.folder / name).exists() for name in left), left


@pytest.mark.parametrize(
    ("page", "folder", "replaced"),
    [
        (
            "../repository/README.md",
            ".",
            {"CompVis/stable-diffusion-v1-4": "../repository/resources/mini/base", '"cuda"': '"cpu"'},
        ),
        (
            "results/wales/model_card.md",
            "results/wales",
            {"resources/mini": "../../../repository/resources/mini"},
        ),
    ],
)
def test_python_of_a_page(world, monkeypatch, page, folder, replaced):
    pictures_of_wales(world)
    in_project(world, "snakemake --cores 1 results/wales/lora_kohya.safetensors")
    blocks = FENCE.findall((world.project / page).read_text())
    (block,) = [block for language, block in blocks if language == "python"]
    for old, new in replaced.items():
        assert old in block
        block = block.replace(old, new)
    assert 'in Wales")' in block
    block = block.replace('in Wales")', 'in Wales", num_inference_steps=2)')
    monkeypatch.chdir(world.project / folder)
    exec(block, {})
    assert Path("house.png").exists()


def test_no_other_page_has_python():
    pages = [page.name for page in PAGES for name, _ in FENCE.findall(page.read_text()) if name == "python"]
    # The second is a Snakefile: tests/workflow/test_anywhere.py has it.
    assert pages == ["README.md", "cluster.md"], "run the others too, in test_python_of_a_page"


@pytest.mark.parametrize("text", LAST)
def test_last_command(world, text):
    LAST[text].run(world, text)


# --- what messages, rules and other files say -------------------------------------------------


def sources() -> dict[str, str]:
    """Every text of the project that a person may read a command in."""
    folders = ("pipeline_steps", "workflow", "benchmarks", "tests", "config", "resources/survey", "envs")
    kinds = (".py", ".smk", ".yaml", ".rst", ".md", ".txt")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for path in (*paths, *PAGES, ROOT / "workflow/Snakefile")
    }


def test_modules_that_anything_names_can_be_run():
    named = {}
    for path, text in sources().items():
        for module in re.findall(
            r"(?:python3? -m|launch\}) +((?:pipeline_steps|benchmarks|tests)(?:\.\w+)+)", text
        ):
            named.setdefault(module, path)
    assert len(named) > 40
    for module, path in named.items():
        file = ROOT / module.replace(".", "/")
        file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
        assert file.exists(), f"{path}: python -m {module}: no such module"
        assert 'if __name__ == "__main__":' in file.read_text(), f"{path}: {module} cannot be run"


def test_targets_that_messages_name_exist():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    known = set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", rules, re.MULTILINE))
    known |= {word for text in (*RUN, *LAST) for word in text.split()} | named_files()
    takes_value = ("--cores", "--profile", "--configfile", "--report", "--default-storage-provider")
    checked = set()
    for path, text in sources().items():
        for command in re.findall(r"snakemake (-[^`'\"\n)(;|#]*)", text):
            words = command.split()
            for before, word in zip(["", *words], words, strict=False):
                if re.fullmatch(r"[a-z]\w*|results/[\w/.]+", word) and before not in takes_value:
                    assert word in known, f"{path}: snakemake {command}: no such rule or result: {word}"
                    checked.add(word)
    assert {"models", "plan", "data_report", "purge_negatives", "withdraw_report", "sbom"} <= checked


def test_flags_that_pages_name_exist(world):
    """Pieces of commands between backticks: ``--flag value``."""
    ours = "".join(text for path, text in sources().items() if path.endswith(".py"))
    known = set(re.findall(r"--[a-z][\w-]+", world.run("snakemake --help")))
    known |= set(re.findall(r"add_argument\(\"(--[\w-]+)\"", ours))
    known |= {
        f"--{name.replace('_', '-')}" for name in re.findall(r"^ +(\w+): [\w.\[\] |]+(?: =|,)", ours, re.M)
    }
    pieces = [code for page in PAGES for code in inline(page.read_text()) if code.startswith("--")]
    named = {flag for piece in pieces for flag in re.findall(r"(?:^| )(--[a-z][\w-]+)", piece)}
    assert len(named) > 15 and not named - known


def test_extras_that_anything_names_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    written = re.compile(r"install '(?:\.|scoft-pipeline)\[(\w+)\]'|not_installed\(error, \"(\w+)\"\)")
    named = {a or b for text in sources().values() for a, b in written.findall(text)}
    assert named == {"s3", "survey", "test", "try"} <= extras.keys()
