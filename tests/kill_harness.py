"""Disturbs the default pipeline at random points and checks that nothing is lost.

    python -m tests.kill_harness --points 50

A tiny culture goes through the whole default target. At a random moment the run is killed, starved
or blocked; the cause is then lifted, and the same command must complete and leave every artifact
byte for byte as an undisturbed run does. Mounts that are not permitted are reported, and their
disturbances skipped. Steps are forked from a process with the libraries imported (``--cold``: not).
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests import ROOT
from tests.warm_python import STEP_NAME, WarmPython

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
KINDS = ("group", "step", "group", "full", "group", "memory", "group", "readonly", "group", "clock")
"""Disturbances in turn; half of them kill the whole process group."""
NEEDS_MOUNT = ("full", "readonly")
GIVE_UP = 300
"""Seconds after which a run counts as hanging."""

SETTINGS = {
    "threads": 1,
    "cultures": {"korea": {"suffix": ", in korea", "images": "pictures/korea"}},
    "caption": {"captions_per_image": 2, "max_new_tokens": 8},
    "negatives": {"per_positive": 2, "steps": 2},
    "train": {
        "updates": 4,
        "batch_size": 2,
        "perceptual_every": 2,
        "denoising": {"steps": 2},
    },
    "watch": {"checkpoint_every": 1, "tensorboard": False},
}


def build_world(folder: Path) -> None:
    """Lay out a working directory with four training and one test picture of two cultures."""
    for name in ("resources", "workflow", "profiles", "pipeline_steps"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "Snakefile", folder)
    for culture in ("korea", "india"):
        source, pictures = ROOT / "resources/mini/ccub" / culture, folder / "pictures" / culture
        (pictures / "images").mkdir(parents=True)
        lines = (source / "metadata.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        picked = [row for row in rows if row["split"] == "train"][:4] + [
            row for row in rows if row["split"] == "test"
        ][:1]
        for row in picked:
            shutil.copy(source / row["file_name"], pictures / "images")
        (pictures / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in picked))
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(SETTINGS))


def digests(results: Path) -> dict[str, str]:
    """Return the SHA-256 of every artifact below ``results``; logs and timings are none."""
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in ("logs", "benchmarks")
    }


def mounted(folder: Path, *options: str) -> bool:
    """Mount a tmpfs on ``folder``, or change the one that is there; False where not permitted."""
    command = ["mount", *options, "-t", "tmpfs", "tmpfs", folder]
    return subprocess.run(command, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    """Take away the uppermost mount."""
    subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


# --- one run ----------------------------------------------------------------------------------


@dataclass
class Run:
    """A snakemake in its own process group."""

    process: subprocess.Popen
    log: Path
    begun: float

    def group(self) -> list[int]:
        """Return the processes of the group."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.process.pid and fields[0] != "Z":
                    found.append(int(stat.parent.name))
        return found

    def steps(self) -> list[int]:
        """Return the steps that are running."""
        return [pid for pid in self.group() if is_step(pid)]

    def wait_for_step(self) -> int | None:
        """Return a running step as soon as there is one; None when the run ends before."""
        while self.process.poll() is None:
            if steps := self.steps():
                return steps[0]
            time.sleep(0.02)
        return None

    def end(self) -> int | None:
        """Wait for the end, reap what is left of the group, return the exit code; None: it hung."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(GIVE_UP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return code


def is_step(pid: int) -> bool:
    """Whether the process runs a step of the pipeline, forked or started."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().strip() == STEP_NAME:
            return True
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"python" in words[0] and words[1:2] == [b"-m"] and words[2].startswith(b"pipeline_steps.")
    return False


class Harness:
    """Runs the same command again and again in one working directory."""

    def __init__(self, folder: Path, cold: bool = False) -> None:
        self.folder, self.results, self.cold = folder, folder / "results", cold
        self.clock = folder / "clock"
        self.warm: dict[bool, WarmPython] = {}
        self.seconds, self.jobs, self.size = 0.0, 0, 0
        self.expected: dict[str, str] = {}
        build_world(folder)
        self.clock.write_text("+0\n")
        self.results.mkdir()
        self.may_mount = mounted(self.results)
        if self.may_mount:
            unmount(self.results)

    def close(self) -> None:
        """End the servers and take away the mounts."""
        for server in self.warm.values():
            server.__exit__()
        while self.may_mount and self.results.is_mount():
            unmount(self.results)

    def environment(self, faked_clock: bool) -> dict[str, str]:
        """Return what a run sees; with a faked clock it reads its offset from a file at every look."""
        path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "OMP_NUM_THREADS": "1"}
        if faked_clock:
            environment |= {
                "LD_PRELOAD": FAKETIME,
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        if not self.cold:
            if faked_clock not in self.warm:
                server_folder = self.folder / f"warm{int(faked_clock)}"
                self.warm[faked_clock] = WarmPython(server_folder, environment)
            environment["PATH"] = f"{self.warm[faked_clock].path}:{environment['PATH']}"
        return environment

    def start(self, faked_clock: bool = False, *arguments: str) -> Run:
        """Start the command, with further arguments where given."""
        environment = self.environment(faked_clock)
        log = self.folder / "run.log"
        with log.open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        return Run(process, log, time.monotonic())

    def fresh(self, kind: str, rng: random.Random) -> None:
        """Begin anew: nothing but the pictures and the settings."""
        while self.results.is_mount():
            unmount(self.results)
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.rmtree(self.folder / ".snakemake", ignore_errors=True)
        (self.folder / "run.log").unlink(missing_ok=True)
        self.clock.write_text("+0\n")
        self.results.mkdir()
        if kind == "full":
            size = rng.randint(5, 90) * self.size // 100
            assert mounted(self.results, "-o", f"size={max(size, 8192)}")
        elif kind == "readonly":
            assert mounted(self.results)

    def undisturbed(self) -> None:
        """Remember the artifacts of a run that nothing happens to."""
        self.fresh("", random.Random())
        run = self.start()
        if run.end() != 0:
            raise RuntimeError(f"the undisturbed run failed:\n{run.log.read_text()[-3000:]}")
        self.seconds = time.monotonic() - run.begun
        self.jobs = len(begun(run.log))
        self.expected = digests(self.results)
        self.size = sum(path.stat().st_size for path in self.results.rglob("*") if path.is_file())

    # --- one point ----------------------------------------------------------------------------

    def point(self, kind: str, rng: random.Random) -> dict:
        """Disturb a fresh run once, mend the cause, run the same command again, and compare.

        Returns:
            Kind, moment, what was running, both exit codes and whether all artifacts are equal.
        """
        self.fresh(kind, rng)
        run = self.start(faked_clock=kind == "clock")
        # Counted in jobs, so that a busy machine does not push every moment to the beginning.
        jobs, wait = rng.randint(0, self.jobs - 1), rng.random() * self.seconds / self.jobs
        while run.process.poll() is None and len(begun(run.log)) < jobs:
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(wait)
        about = {
            "kind": kind,
            "after_s": round(time.monotonic() - run.begun, 1),
            "at": (begun(run.log) or ["start"])[-1],
        }
        mend = getattr(self, f"do_{kind}")(run, rng)
        first = run.end()
        if mend:
            mend()
        again = self.start()
        second = again.end()
        found = digests(self.results)
        wrong = sorted(
            name for name in found.keys() | self.expected if found.get(name) != self.expected.get(name)
        )
        survived = first is not None and second == 0 and not wrong
        about |= {"first_exit": first, "second_exit": second, "survived": survived, "wrong": wrong}
        if not survived:
            about["log"] = again.log.read_text()[-4000:]
        return about

    def do_group(self, run: Run, rng: random.Random) -> None:
        """SIGKILL to everything at once, as a power cut or a batch system's last word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)

    def do_step(self, run: Run, rng: random.Random) -> None:
        """SIGTERM to one step."""
        if pid := run.wait_for_step():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def do_memory(self, run: Run, rng: random.Random) -> None:
        """Let one step have a few megabytes of address space more than it has, and no more."""
        if pid := run.wait_for_step():
            with contextlib.suppress(OSError, ProcessLookupError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + rng.randint(0, 8 << 20)
                resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))

    def do_full(self, run: Run, rng: random.Random) -> Callable[[], None]:
        """Nothing: the disk, made too small for the run, fills up by itself."""
        return lambda: mounted(self.results, "-o", "remount,size=256m")

    def do_readonly(self, run: Run, rng: random.Random) -> Callable[[], None]:
        """Turn the results read-only under the run."""
        subprocess.run(["mount", "--bind", self.results, self.results], check=True)
        command = ["mount", "-o", "remount,bind,ro", self.results]
        # The kernel refuses while a file is open for writing; any other refusal stays and is an error.
        until = time.monotonic() + GIVE_UP
        while subprocess.run(command, capture_output=True).returncode and time.monotonic() < until:
            time.sleep(0.02)
        subprocess.run(command, check=True)
        return lambda: unmount(self.results)

    def do_clock(self, run: Run, rng: random.Random) -> Callable[[], None]:
        """Let the clock jump by up to ten years, back or forth; afterwards it is right again.

        The kernel's clock stays: what lies there is shifted instead, so that under the faked clock
        it keeps its times.
        """
        offset = rng.choice((-1, 1)) * rng.randint(60, 10 * 365 * 86400)
        self.shift_times(-offset)
        self.clock.write_text(f"{offset:+d}\n")

        def mend() -> None:
            self.shift_times(offset)
            self.clock.write_text("+0\n")

        return mend

    def shift_times(self, seconds: int) -> None:
        """Move the times of every file and folder."""
        for path in [*self.folder.rglob("*")]:
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    moved = path.stat().st_mtime_ns + seconds * 10**9
                    os.utime(path, ns=(moved, moved))


def begun(log: Path) -> list[str]:
    """Return the rules that were begun, in order."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))]


def run_points(folder: Path, points: int, seed: int, cold: bool = False) -> Iterator[dict]:
    """Yield one report per point."""
    harness = Harness(folder, cold)
    try:
        harness.undisturbed()
        print(f"undisturbed: {harness.seconds:.0f} s, {len(harness.expected)} artifacts", flush=True)
        for number in range(points):
            kind = KINDS[number % len(KINDS)]
            if (kind in NEEDS_MOUNT and not harness.may_mount) or (
                kind == "clock" and not Path(FAKETIME).exists()
            ):
                yield {"point": number, "kind": kind, "skipped": "not permitted on this machine"}
                continue
            for attempt in range(10):
                about = harness.point(kind, random.Random(f"{seed} {number} {attempt}"))
                if about["first_exit"] != 0 or not about["survived"] or kind == "clock":
                    break  # else the run was over before anything happened to it
            yield {"point": number, **about}
    finally:
        harness.close()


def main() -> None:
    """Run from the command line; exit code 1 when a point was not survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="start every step with a new interpreter")
    parser.add_argument("--report", type=Path, help="file to write one JSON line per point to")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that mounts and servers are taken away
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for about in run_points(Path(name), options.points, options.seed, options.cold):
            print(json.dumps(about), flush=True)
            if options.report:
                with options.report.open("a") as report:
                    report.write(json.dumps(about) + "\n")
            count["skipped" if "skipped" in about else "survived" if about["survived"] else "lost"] += 1
    print(f"{count['survived']} of {count['survived'] + count['lost']} survived, {count['skipped']} skipped")
    sys.exit(bool(count["lost"]))


if __name__ == "__main__":
    main()
