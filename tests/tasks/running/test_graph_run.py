"""Tasks of a graph in one flow run: what happens where some of them fail. Nothing here asks a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.states import Completed, Failed, Pending, State

from dfer.config.pipeline import Pipeline
from tasks.running.graph import Graph, Node, Stage
from tasks.running.graph_run import GraphRun
from tasks.running.stage import RunResources

RESOURCES = cast(RunResources, SimpleNamespace(progress=None))


@dataclass
class Future:
    """A task that has ended."""

    state: State[Any]
    value: Any = None

    def wait(self) -> None:
        """There is nothing to wait for."""

    def result(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@dataclass
class Task:
    """Runs at once, unless what it reads failed, as Prefect's tasks do."""

    work: Callable[..., Any]
    called_with: dict[str, Any] = field(default_factory=dict)

    def with_options(self, **_: object) -> Task:
        return self

    def submit(self, **arguments: Any) -> Future:
        read = [value for value in arguments.values() if isinstance(value, Future)]
        if not all(future.state.is_completed() for future in read):
            return Future(Pending(name="NotReady"), RuntimeError("an input failed"))
        self.called_with.update(arguments)
        try:
            return Future(Completed(), self.work())
        except Exception as error:
            return Future(Failed(data=error), error)


def node(stage: str, title: str, work: Callable[..., Any], **inputs: Any) -> Node:
    return Node(stage, title, cast(Any, Task(work)), {}, inputs)


def fails(message: str) -> Callable[[], None]:
    def work() -> None:
        raise ValueError(message)

    return work


@pytest.fixture
def nodes() -> dict[str, Node]:
    """Two trainings and their evaluations, and a report of them."""
    first, second = (node("train", f"train {name}", lambda name=name: name) for name in ("hard", "midas"))
    scored = {
        name: node("evaluate", f"evaluate {name}", lambda name=name: f"scores of {name}", model=model)
        for name, model in (("hard", first), ("midas", second))
    }
    made = {"trained": {"hard": first, "midas": second}, "scored": scored}
    report = node("report", "report", lambda: "page", **made)
    return {"hard": first, "midas": second, **{f"of {name}": one for name, one in scored.items()}, "report": report}


def graph_of(nodes: dict[str, Node], *, partial: bool = True) -> Graph:
    def stage(name: str, **more: Any) -> Stage:
        return Stage(name, lambda graph: {one.title: one for one in nodes.values() if one.stage == name}, **more)

    phases = ((stage("train"), stage("evaluate")), (stage("report", partial=partial),))
    return Graph(cast(Pipeline, None), phases, clips=lambda dataset: None)


def task_of(node: Node) -> Task:
    return cast(Task, node.task)


def test_where_nothing_fails_nothing_is_missing(nodes) -> None:
    run = GraphRun(cast(Pipeline, None))
    run.run_all(graph_of(nodes), RESOURCES)
    assert task_of(nodes["report"]).called_with == {
        "pipeline": None,
        "trained": {"hard": "hard", "midas": "midas"},
        "scored": {"hard": "scores of hard", "midas": "scores of midas"},
    }
    assert run.result(nodes["report"]) == "page"


def test_a_report_is_made_of_what_there_is_and_the_run_fails_all_the_same(nodes) -> None:
    task_of(nodes["midas"]).work = fails("the loss of epoch 3 is nan\nand more")
    with pytest.raises(ValueError, match="the loss of epoch 3 is nan"):
        GraphRun(cast(Pipeline, None)).run_all(graph_of(nodes), RESOURCES)
    assert task_of(nodes["report"]).called_with == {
        "pipeline": None,
        "trained": {"hard": "hard"},
        "scored": {"hard": "scores of hard"},
        "missing": {
            "train midas": "ValueError: the loss of epoch 3 is nan",
            "evaluate midas": "not begun, since this is missing: train midas",
        },
    }


def test_an_evaluation_that_fails_leaves_its_training(nodes) -> None:
    task_of(nodes["of hard"]).work = fails("no clip has aligned faces")
    with pytest.raises(ValueError, match="no clip has aligned faces"):
        GraphRun(cast(Pipeline, None)).run_all(graph_of(nodes), RESOURCES)
    seen = task_of(nodes["report"]).called_with
    assert (list(seen["trained"]), list(seen["scored"])) == (["hard", "midas"], ["midas"])
    assert seen["missing"] == {"evaluate hard": "ValueError: no clip has aligned faces"}


def test_a_report_that_fails_as_well_does_not_hide_why_the_run_failed(nodes) -> None:
    task_of(nodes["midas"]).work, task_of(nodes["report"]).work = fails("the first"), fails("no space left")
    with pytest.raises(ValueError, match="the first") as raised:
        GraphRun(cast(Pipeline, None)).run_all(graph_of(nodes), RESOURCES)
    assert raised.value.__notes__ == ["also failed: ValueError: no space left"]


def test_what_needs_all_of_its_inputs_is_not_begun(nodes) -> None:
    task_of(nodes["midas"]).work = fails("the first")
    with pytest.raises(ValueError, match="the first"):
        GraphRun(cast(Pipeline, None)).run_all(graph_of(nodes, partial=False), RESOURCES)
    assert not task_of(nodes["report"]).called_with


def test_ctrl_c_makes_no_report(nodes) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    task_of(nodes["midas"]).work = interrupted
    with pytest.raises(KeyboardInterrupt):
        GraphRun(cast(Pipeline, None)).run_all(graph_of(nodes), RESOURCES)
    assert not task_of(nodes["report"]).called_with
