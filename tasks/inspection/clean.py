"""What no pipeline of a configuration needs any more, and what stays all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfer.config.pipeline import Pipeline
from dfer.storage import cleaning
from dfer.storage.cleaning import Key, Removal, Stored
from dfer.storage.manifest import MANIFEST
from dfer.storage.store import Output
from tasks.inspection.dry_run import dry_run
from tasks.running.graph import ExpectedOutput
from tasks.running.stage import store_of
from tasks.stages import STAGES
from tasks.tracking.client import is_missing_file
from tasks.tracking.registry import RegistryError, registered_runs
from tasks.tracking.runs import outbox_of


class UnknownOriginError(RuntimeError):
    """It is not known what a model was made from that must stay with all it was made from."""


class RemoteWorkError(RuntimeError):
    """The work directory is not on this machine."""


@dataclass(frozen=True)
class Plan:
    """What would be removed, and what stays though no pipeline needs it: reason -> outputs.

    `unknown`: data sets of which it is not known what is needed -> why.
    """

    root: Path
    remove: tuple[Removal, ...]
    stays: Mapping[str, tuple[Stored, ...]]
    unknown: Mapping[str, str]

    @property
    def num_bytes(self) -> int:
        return sum(removal.num_bytes for removal in self.remove)


def plan(pipelines: Sequence[Pipeline]) -> Plan:
    """Look through a work directory. Reads the data sets' lists and asks MLflow; removes and writes nothing.

    Args:
        pipelines: all of a configuration, which share a work directory.

    Raises:
        RegistryError: MLflow cannot be asked which models are registered.
        UnknownOriginError: it cannot be read what a registered model was made from.
        RemoteWorkError: the work directory is in an object store.
    """
    root = store_of(pipelines[0]).root
    if not isinstance(root, Path):
        raise RemoteWorkError(
            f"{root}: only a work directory on this machine can be cleaned, since it is not known what other machines "
            "are making in an object store. Let its life-cycle rules expire what is old, or remove stages by hand."
        )
    outputs = cleaning.stored(root, STAGES)
    needed, unknown = _needed(pipelines)
    pinned = _pinned(pipelines, outputs)
    for output in outputs:
        if output.key in pinned and not output.legible:
            raise UnknownOriginError(
                f"{output.path / MANIFEST} cannot be read, so it is not known what it was made from, which must not be "
                f"removed ({pinned[output.key]}). Restore the file, or remove the folder if nobody needs that model."
            )
    stay = cleaning.kept(outputs, needed, pinned, unknown)
    left = cleaning.leftovers(root, STAGES, {key for key in needed if key[0] == "train"}, resumes_unknown=bool(unknown))
    reasons = dict.fromkeys(reason for reason in stay.values() if reason)
    stays = {reason: tuple(output for output in outputs if stay.get(output.key) == reason) for reason in reasons}
    return Plan(root, (*cleaning.removable(outputs, stay), *left), stays, unknown)


def _needed(pipelines: Sequence[Pipeline]) -> tuple[set[Key], dict[str, str]]:
    """What the pipelines would read or make, whether it exists or not; and the data sets that could not be read."""
    needed: set[Key] = set()
    unknown: dict[str, str] = {}
    for pipeline in pipelines:
        store = store_of(pipeline)

        def visit(expected: ExpectedOutput) -> Output | None:
            key = expected.cache_key
            if key is None:
                return None
            needed.add((key.stage, key.hash))
            existing = store.find(key)  # noqa: B023 - called before the next pipeline's turn
            if isinstance(existing, Output):
                return existing
            if expected.stage == "demo-data":
                return None  # the data sets in it cannot be listed
            # what depends on it is needed as well, and its cache key is made of hashes alone
            return Output(key.stage, key.hash, "", str(store.folder(key)))  # noqa: B023

        unknown.update(dry_run(pipeline, visit, tolerant=True).unknown)
    return needed, unknown


def _pinned(pipelines: Sequence[Pipeline], outputs: Sequence[Stored]) -> dict[Key, str]:
    """The trainings that registered models came from, and those of which that cannot be known."""
    configured = {pipeline.tracking_uri for pipeline in pipelines}
    asked = {uri: registered_runs(uri) for uri in dict.fromkeys(pipeline.tracking_uri for pipeline in pipelines)}
    outbox, silent = outbox_of(pipelines[0]), dict[str, str]()
    pinned: dict[Key, str] = {}
    for output in outputs:
        if output.stage != "train":
            continue
        run = outbox.noted(output.path)
        if run is None:
            pinned[output.key] = "it is not known which run in MLflow it was tracked in"
            continue
        uri, run_id = run.created["uri"], run.delivered.run_id
        if run_id and is_missing_file(uri):
            if uri in configured:
                raise RegistryError(
                    f"{uri} is not there, but trainings were tracked in it: it cannot be asked which models are "
                    "registered, and what they came from must not be removed. Bring it back (a disk that is not "
                    "mounted?), or name the right one with --set mlflow.tracking_uri=..."
                )
            silent[uri] = f"MLflow's database {uri}, which tracked it, is not there"
        if uri not in asked:
            # of an earlier configuration, maybe gone for good: what it tracked stays, the rest need not
            try:
                asked[uri] = registered_runs(uri)
            except RegistryError:
                asked[uri] = {}
                silent[uri] = f"MLflow at {uri}, which tracked it, cannot be asked whether it is registered"
        for registered in asked.values():
            for name in {run.id, run_id} & registered.keys():
                pinned[output.key] = f"registered model {registered[name]}"
        if uri in silent:
            pinned.setdefault(output.key, silent[uri])
    return pinned
