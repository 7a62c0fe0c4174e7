"""One Prefect server for all tests of flows, and one finished run of the demo, in whose folder they work."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import CONFIG, TINY

from dfer.system import processes


@dataclass(frozen=True)
class Demo:
    """The reduced demo pipeline, which ran once, and its work folder.

    The folder cannot be copied for a test, since its path is part of what determines the clip tables: it is put back.

    Attributes:
        work: the folder.
        kept: a copy of it as the run left it.
        first: the outcome of that run, in which everything was made.
    """

    work: Path
    kept: Path
    first: Any = None

    @property
    def overrides(self) -> list[str]:
        """One process of a kind at a time: each loads its libraries, which takes longer than what it does here."""
        return [*TINY, "run.workers=1", f"work_dir={self.work}"]

    def run(self, *overrides: str) -> Any:
        from flows.midas import midas

        return midas("demo", str(CONFIG), [*self.overrides, *overrides])

    def put_back(self) -> None:
        """Files are overwritten and not replaced: a connection to MLflow's database may be open."""
        for path in sorted(self.work.rglob("*"), reverse=True):
            if not (self.kept / path.relative_to(self.work)).exists():
                path.rmdir() if path.is_dir() else path.unlink()
        shutil.copytree(self.kept, self.work, dirs_exist_ok=True)


@pytest.fixture(scope="module", autouse=True)
def loaded_processes() -> Iterator[None]:
    """Processes of stages are forked from one that has loaded their libraries, which takes longer than what they do
    here. Those of `finished_demo` are started anew, as `dfer run` does."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["dfer.training", "dfer.evaluation", "dfer.faces.videos", "tasks.train"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "CONTEXT", forkserver)
        yield


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    try:
        with prefect_test_harness(server_startup_timeout=180):
            yield
    except RuntimeError as error:
        # the harness waits for an events worker, the loop of which may end at that moment
        if str(error) != "Event loop is closed":
            raise


@pytest.fixture(scope="session")
def finished_demo(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished run of the demo. To be read only: all tests share it."""
    folder = tmp_path_factory.mktemp("demo")
    demo = Demo(folder / "work", folder / "kept")
    first = demo.run("run.workers=2")  # several processes at a time here, if nowhere else
    shutil.copytree(demo.work, demo.kept)
    return replace(demo, first=first)


@pytest.fixture
def demo(finished_demo: Demo) -> Iterator[Demo]:
    """The finished run, in whose folder a test may do what it likes."""
    yield finished_demo
    finished_demo.put_back()


@pytest.fixture(scope="module")
def demo_of_module(finished_demo: Demo) -> Iterator[Demo]:
    """The same for the tests of a module together."""
    yield finished_demo
    finished_demo.put_back()
