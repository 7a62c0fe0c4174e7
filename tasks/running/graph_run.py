"""Running the nodes of a graph as Prefect tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefect.futures import PrefectFuture

from dfer.config.pipeline import Pipeline
from dfer.storage.store import StageResult
from tasks.running import failures
from tasks.running.graph import Graph, Node
from tasks.running.stage import RunResources
from tasks.running.task_runners import Runner, finished, submit_to, task_runner


class GraphRun:
    """The tasks of one flow run, in the flow's own process."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._futures: dict[Node, PrefectFuture[Any]] = {}
        self._done: set[Node] = set()

    def result(self, node: Node) -> Any:
        """What a node's task has returned. Raises its error."""
        return self._futures[node].result()

    def results(self, nodes: Iterable[Node]) -> list[StageResult]:
        """The outputs of some nodes, in order."""
        results = [self.result(node) for node in nodes if node.value is None]
        return [each for result in results for each in (result if isinstance(result, list) else [result])]

    def run_all(self, graph: Graph, resources: RunResources) -> None:
        """Run the phases of a graph, one after the other.

        Raises the error of the first node that failed, once the stages that can do without its output have run.
        """
        failed: list[Exception] = []
        for nodes in graph.phases(has_failed=lambda: bool(failed)):
            try:
                self.run(nodes, resources, partial=bool(failed))
            except Exception as error:
                failed.append(error)
        if failed:
            for other in failed[1:]:
                failed[0].add_note(f"also failed: {failures.first_line(other)}")
            raise failed[0]

    def run(self, nodes: Sequence[Node], resources: RunResources, *, partial: bool = False) -> None:
        """Run the nodes of a phase side by side and wait for all of them, so that each error is reported.

        Args:
            partial: nodes of an earlier phase have failed; these are run without them (see `Stage.partial`).

        Raises the error of the first node that failed.
        """
        totals: Counter[tuple[str, str]] = Counter()
        for node in nodes:
            if node.progress is not None:
                title, what, number = node.progress
                totals[title, what] += number
        for (title, what), total in totals.items():
            resources.progress.expect(title, what, total)
        remote = [node for node in nodes if node.remote]
        if remote and self._pipeline.run.task_runner != "threads":
            self._run_remote(remote, resources)
        self._submit([node for node in nodes if node not in self._futures], resources, partial=partial)
        try:
            _wait_for([(node.title, self._futures[node]) for node in nodes])
        except Exception:
            self._done.update(node for node in nodes if self._futures[node].state.is_completed())
            raise
        self._done.update(nodes)

    def _run_remote(self, nodes: Sequence[Node], resources: RunResources) -> None:
        """Run nodes on the task runner of the configuration, and wait for them: it ends with its tasks."""
        inputs = {read for node in nodes for read in node.inputs.values() if isinstance(read, Node)}
        self._submit([read for read in inputs if read not in self._futures], resources)
        with task_runner(self._pipeline) as runner:
            self._submit(nodes, resources, runner)
            self._futures |= finished({node: self._futures[node] for node in nodes}, resources.progress)

    def _submit(
        self, nodes: Iterable[Node], resources: RunResources, runner: Runner | None = None, *, partial: bool = False
    ) -> None:
        for node in nodes:
            # another runner knows nothing of the futures of the flow's own
            read = {name: self._made(nodes) if partial else nodes for name, nodes in node.inputs.items()}
            inputs = {name: self._read(nodes, wait=runner is not None) for name, nodes in read.items()}
            arguments = {"pipeline": self._pipeline, **node.arguments, **inputs}
            if partial:
                arguments["missing"] = self._missing(node)
            if node.needs_run:
                arguments["run"] = resources if runner is None else None
            task = node.task.with_options(task_run_name=node.title)
            self._futures[node] = task.submit(**arguments) if runner is None else submit_to(runner, task, arguments)

    def _made(self, nodes: Node | Sequence[Node] | Mapping[Any, Node]) -> Node | Sequence[Node] | Mapping[Any, Node]:
        """Of several nodes, those that have returned something."""
        if not isinstance(nodes, Mapping):
            return nodes
        return {subject: node for subject, node in nodes.items() if node in self._done}

    def _missing(self, reader: Node) -> dict[str, str]:
        """The titles of the nodes that a node would have read, and why they have returned nothing."""
        read = [node for nodes in reader.inputs.values() if isinstance(nodes, Mapping) for node in nodes.values()]
        return {node.title: self._why(node) for node in read if node not in self._done}

    def _why(self, node: Node) -> str:
        state = self._futures[node].state
        if state.name != "NotReady":
            return failures.reason(state)
        before = [read.title for read in node.inputs.values() if isinstance(read, Node) and read not in self._done]
        return f"not begun, since this is missing: {', '.join(before)}"

    def _read(self, nodes: Node | Sequence[Node] | Mapping[Any, Node], *, wait: bool) -> Any:
        """The results of an earlier phase, or futures of the same one."""
        if isinstance(nodes, Mapping):
            return {subject: self._read(node, wait=wait) for subject, node in nodes.items()}
        if not isinstance(nodes, Node):
            return [self._read(node, wait=wait) for node in nodes]
        return self.result(nodes) if wait or nodes in self._done else self._futures[nodes]


def _wait_for(tasks: Sequence[tuple[str, PrefectFuture[Any]]]) -> None:
    """Wait for tasks by title and future. Raises the first error, with a note for every other that failed by itself."""
    for _, future in tasks:
        future.wait()
    # a task whose input failed was not begun
    failed = [
        (title, future)
        for title, future in tasks
        if not future.state.is_completed() and future.state.name != "NotReady"
    ]
    for _, first in failed:
        try:
            first.result()
        except Exception as error:
            for title, future in failed[1:]:
                message = str(future.state.message).removeprefix("Task run encountered an exception ")
                error.add_note(f"also failed: {title}: {message}")
            raise
