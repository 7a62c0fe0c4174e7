"""`python -m benchmarks.scale`: the cost of a million clips beyond the work on the clips themselves.

The flow ingests, plans, aligns shard by shard, merges the index and reuses everything, with a real Prefect server. Only
the videos are empty files, and the aligner writes rows without pictures. Trainings are left out: their cost depends
only on the clips that they read.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.measure import Variant, Work, alone
from benchmarks.services import free_port

if TYPE_CHECKING:
    import pandas as pd

    from dfer.config.pipeline import Pipeline
    from dfer.config.settings import StageSettings
    from dfer.datasets import IngestReport

T = TypeVar("T")

_log = logging.getLogger(__name__)

SIZES = (10_000, 100_000, 1_000_000)

_HERE = Path(__file__).parent.parent
_FOLDER = 1000  # videos in one folder of the simulated set
_VOTES = 10


@dataclass(frozen=True)
class Turn:
    """One command on a set."""

    name: str
    seconds: float  # wall time
    cpu: float  # seconds of CPU time of its process, without children
    peak: int  # largest memory of its process in bytes
    idle: int  # memory of its process before, with the libraries loaded
    executed: Mapping[str, int]  # stage -> number of outputs that were made
    tasks: Mapping[str, tuple[int, float]]  # task -> number of runs, and seconds from the first start to the last end


@dataclass(frozen=True)
class Size:
    """The measurements of one number of clips."""

    clips: int
    turns: tuple[Turn, ...]  # first run, plan, nothing to do, one clip changed
    files: int  # in the work directory
    bytes: int  # of these files
    rows: int  # that the first run added to Prefect's database
    database: int  # bytes that the first run added to it


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--clips", type=int, default=SIZES[-1], help="the largest number of clips")
    parser.add_argument("--out", type=Path, help="a folder to write scale.json and scale.md to")
    parser.add_argument("--scratch", type=Path, help="for the sets and the work; default: a new folder")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sizes = [*(size for size in SIZES if size < options.clips), options.clips]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="dfer-scale-") as scratch:
        measured = [measure(clips, Path(scratch) / str(clips)) for clips in sizes]
    seconds = time.perf_counter() - started
    page = as_markdown(measured, seconds, options.clips)
    sys.stdout.write(page)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "scale.md").write_text(page, encoding="utf-8")
        plain = {"seconds": round(seconds), "sizes": [asdict(size) for size in measured]}
        (options.out / "scale.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return 0


def measure(clips: int, folder: Path) -> Size:
    """Measure one number of clips, in a folder that is removed again."""
    _log.warning("%s clips: making empty videos", f"{clips:,}")
    make_videos(folder / "data", clips)
    with server(folder / "prefect") as (url, database):
        turns: list[Turn] = []

        def turn(name: str, function: Callable[..., Iterator[Work]]) -> None:
            _log.warning("%s clips: %s", f"{clips:,}", name)
            arguments = {"data": str(folder / "data"), "work": str(folder / "work"), "url": url}
            measured = alone(Variant(name, function, 1, arguments, ()))
            seconds, results = measured.seconds[0], measured.results
            _log.warning("%s clips: %s: %.1f s (%.1f)", f"{clips:,}", name, seconds, results["cpu"])
            turns.append(Turn(name, seconds, **results))

        before = rows_in(database), size_of(database)
        turn("first run", run_it)
        grown = rows_in(database) - before[0], size_of(database) - before[1]
        turn("plan", plan_it)
        turn("nothing to do", run_it)
        os.utime(video(folder / "data", clips // 2))
        turn("one clip changed", run_it)
        files = [path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file()]
    shutil.rmtree(folder)
    return Size(clips, tuple(turns), len(files), sum(files), *grown)


def video(data: Path, number: int) -> Path:
    return data / f"{number // _FOLDER:04d}" / f"{number:07d}.mp4"


def make_videos(data: Path, clips: int) -> None:
    """Empty files, in folders of a thousand."""
    for number in range(clips):
        path = video(data, number)
        if number % _FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.touch()


def inspect(root: Path, *, dataset: str, source: str | None = None) -> tuple[pd.DataFrame, IngestReport]:
    """The adapter of the simulated set: a row for every file, with votes, a label and a fold."""
    from dfer.datasets import IngestReport
    from dfer.datasets.scan import scan_videos, subfolders
    from dfer.datasets.table import NUM_FOLDS, ClipRow, from_rows
    from dfer.labels import EMOTIONS

    def row(number: int, path: str, size: int, mtime_ns: int) -> ClipRow:
        label, other = number % len(EMOTIONS), (number // 7) % len(EMOTIONS)
        votes = [0] * len(EMOTIONS)
        votes[label] += _VOTES - 3
        votes[other] += 3
        fold = number % NUM_FOLDS + 1
        name = f"{dataset}/{path.removesuffix('.mp4')}"
        return ClipRow(name, dataset, path, tuple(votes), label, None, fold, None, None, size, mtime_ns)

    videos = (source for name in subfolders(root) for source in scan_videos(root / name, root).sources)
    table = from_rows(row(n, video.path, video.size, video.mtime_ns) for n, video in enumerate(videos))
    return table, IngestReport(dataset, str(root), (), {"clips": len(table)})


def align_nothing(
    *,
    clips: list[tuple[str, Path]],
    folder: Path,
    settings: StageSettings,
    crashed: Mapping[str, str] = MappingProxyType({}),
    send: Callable[[str], None],
) -> dict[str, int]:
    """In place of `dfer.faces.videos.align_in_process`: every clip is empty, and so is the shard."""
    from dfer.faces.index import FILE_NAME, from_rows, write_index
    from dfer.shards import write_shard

    write_shard(folder, (), settings=settings.shards)
    nothing: dict[str, Any] = {"frames_seen": 0, "frames_with_face": 0, "frames_kept": 0, "close_up_frames": 0}
    nothing |= {"interpolated_frames": 0, "faces_max": 0, "row": -1}
    nothing |= {"turned": 0, "outside_share": 0.0, "remarks": ""}
    failed = {"status": "failed", "reason": "empty_file", "detail": "0 bytes", "shard": "", **nothing}
    write_index(folder / FILE_NAME, from_rows([{"clip_id": name, **failed} for name, _ in clips]))
    for name, _ in clips:
        send(name)
    return {"given": len(clips), "ok": 0, "failed": len(clips)}


def pipeline(data: str, work: str) -> Pipeline:
    """The simulated set under the settings of the real one."""
    from dfer.config.reading import load_pipeline

    overrides = (
        f"datasets.dfew.layout={__name__}:inspect",
        f"datasets.dfew.root={data}",
        f"work_dir={work}",
        "pipelines.dfew-fold1.cross_datasets=[]",
        "model.pretrained=null",
        "shards.max_failed_share=1.0",
    )
    return load_pipeline("dfew-fold1", _HERE / "pipeline_config.yaml", overrides)


def plan_it(*, data: str, work: str, url: str) -> Iterator[Work]:
    """`dfer run --plan`."""
    import torch  # noqa: F401 - to count GPUs; part of the start of any command

    from tasks.inspection.forecast import forecast

    plan, idle = pipeline(data, work), _memory()
    yield Work()
    _, done = _timed(lambda: forecast(plan))
    yield replace(done, results={**done.results, "idle": idle, "executed": {}, "tasks": {}})


def run_it(*, data: str, work: str, url: str) -> Iterator[Work]:
    """`dfer run` up to the trainings."""
    os.environ |= {"PREFECT_API_URL": url, "PREFECT_LOGGING_LEVEL": "ERROR"}
    from prefect import flow
    from prefect.context import FlowRunContext
    from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

    import tasks.align
    from tasks.ingest import clips_of
    from tasks.running.graph_run import GraphRun
    from tasks.running.progress import Progress
    from tasks.running.slots import Slots
    from tasks.running.stage import RunResources
    from tasks.stages import graph_of
    from tasks.tracking.deliverer import Deliverer
    from tasks.tracking.runs import PipelineTracking, outbox_of

    tasks.align.align_in_process = align_nothing

    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=64)

    @flow(name="scale", task_runner=runner, persist_result=False)
    def scale() -> tuple[str, dict[str, int]]:
        plan = pipeline(data, work)
        run = GraphRun(plan)
        graph = graph_of(plan, clips=lambda dataset: clips_of(run.result(graph["ingest"][dataset])))
        tracking = PipelineTracking(plan, str, Deliverer(outbox_of(plan)))  # nothing is tracked before a training
        with Slots(plan) as slots:
            for phase in islice(graph.phases(), 2):
                run.run(phase, RunResources(slots, tracking, Progress()))
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        return str(context.flow_run.id), {
            stage: sum(result.executed for result in run.results(graph[stage].values()))
            for stage in ("demo-data", "ingest", "align", "index")
        }

    idle = _memory()
    yield Work()
    (run, executed), done = _timed(scale)
    yield replace(done, results={**done.results, "idle": idle, "executed": executed, "tasks": _tasks_of(run, url)})


def _timed(function: Callable[[], T]) -> tuple[T, Work]:
    """A function's result, and its seconds, CPU seconds and largest memory."""
    started, worked = time.perf_counter(), time.process_time()
    result = function()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return result, Work(1, seconds, {"cpu": cpu, "peak": _memory()})


def _memory() -> int:
    """The largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tasks_of(run: str, url: str) -> dict[str, tuple[int, float]]:
    """First word of the names of task runs of a flow run -> their number, and seconds from first start to last end."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    ours = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    runs: list[Any] = []
    with get_client(sync_client=True) as client:
        for _ in range(300):  # the server records them with a delay
            runs = []
            while page := client.read_task_runs(flow_run_filter=ours, offset=len(runs), limit=200):
                runs += page
            if all(one.end_time for one in runs):
                break
            time.sleep(1)
        else:
            raise RuntimeError("Prefect's server does not know the end of all task runs")
    named: dict[str, list[Any]] = defaultdict(list)
    for one in runs:
        named[one.name.split()[0]].append(one)
    return {
        name: (len(same), (max(one.end_time for one in same) - min(one.start_time for one in same)).total_seconds())
        for name, same in named.items()
    }


@contextmanager
def server(home: Path) -> Iterator[tuple[str, Path]]:
    """Start a Prefect server with a new SQLite database; yields its address and the database's file."""
    home.mkdir(parents=True)
    port = free_port()
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--host", "127.0.0.1"]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/api"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        else:
            raise RuntimeError(f"Prefect's server did not start: {(home / 'server.log').read_text()[-500:]}")
        yield url, home / "prefect.db"
    finally:
        process.terminate()
        process.wait(60)


def rows_in(database: Path) -> int:
    """The number of rows in all tables."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables)


def size_of(database: Path) -> int:
    """Bytes of the file and of its journals."""
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))


def as_markdown(sizes: Sequence[Size], seconds: float, clips: int) -> str:
    """The table of the page."""
    columns = [_column(size) for size in sizes]
    lines = [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    lines.insert(1, f"|---|{'---:|' * len(sizes)}")
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    how = f"`python -m benchmarks.scale --clips {clips}` on {os.cpu_count()} cores, {when}, {seconds / 60:.1f} minutes"
    return "\n".join([*lines, "", f"{how}. In brackets: seconds that the process itself computed.", ""])


def _column(size: Size) -> dict[str, str]:
    first, plan, nothing, changed = size.turns

    def took(turn: Turn) -> str:
        return f"{turn.seconds:.1f} s ({turn.cpu:.1f})"

    def memory(number: int) -> str:
        return f"{number / 2**20:,.0f} MiB"

    return {
        "": f"{size.clips:,} clips",
        "first run": took(first),
        **{f"of it `{stage}`": f"{first.tasks[stage][1]:.1f} s" for stage in ("ingest", "align", "index")},
        "first run, a clip": f"{1000 * first.seconds / size.clips:.2f} ms",
        "`--plan`, everything up to date": took(plan),
        "run with nothing to do": took(nothing),
        "run after one clip changed": took(changed),
        "shards made for it": str(changed.executed["align"]),
        "memory of the flow, idle": memory(first.idle),
        "at most, first run": memory(first.peak),
        "at most, nothing to do": memory(nothing.peak),
        "at most, `--plan`": memory(plan.peak),
        "shards": f"{first.executed['align']:,}",
        "align task runs": f"{first.tasks['align'][0]:,}",
        "rows in Prefect's database, first run": f"{size.rows:,}",
        "bytes of the database, first run": f"{size.database / 2**20:.1f} MiB",
        "files in the work directory": f"{size.files:,}",
        "their bytes": memory(size.bytes),
    }


if __name__ == "__main__":
    from benchmarks import scale  # other processes can import its functions from there, but not from __main__

    sys.exit(scale.main())
