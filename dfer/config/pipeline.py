"""One pipeline of the configuration, with everything looked up that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dfer.config.experiments import Experiment
from dfer.config.problems import ConfigError, Problem
from dfer.config.settings import (
    NO_PASSWORD,
    TRAINING_SECTIONS,
    ConfigFile,
    DatasetSettings,
    DemoDataSettings,
    ExperimentSettings,
    PipelineSettings,
    RunSettings,
    StageSettings,
)
from dfer.config.suggestions import did_you_mean
from dfer.storage.remote import is_url, scratch
from dfer.storage.store import ForceRerun
from dfer.system.paths import expanded

TRACKING_URI = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Pipeline:
    """One pipeline, ready to run: names looked up, settings merged, paths absolute.

    Attributes:
        work_dir: on this machine; of a work directory in an object store, its scratch folder.
        datasets: those that this pipeline uses.
        settings: of the stages; an experiment has those of its trainings.
        selected: the experiments that were asked for by name, if not all.
        force_rerun: the stage that runs again although its outputs exist.
    """

    name: str
    description: str
    work_dir: Path
    tracking_uri: str
    run: RunSettings
    demo_data: DemoDataSettings
    dataset: str
    folds: tuple[int, ...]
    datasets: Mapping[str, DatasetSettings]
    experiments: tuple[Experiment, ...]
    published: tuple[Path, ...]
    settings: StageSettings
    selected: tuple[str, ...] = ()
    force_rerun: ForceRerun | None = None
    work_url: str | None = None

    @property
    def workers(self) -> int:
        """Single-threaded processes that work side by side."""
        return self.run.workers or os.cpu_count() or 1

    def only(self, names: Sequence[str]) -> Pipeline:
        """The pipeline with some of its experiments, and the data sets that these need. ConfigError for other names."""
        known = [experiment.name for experiment in self.experiments]
        if unknown := [name for name in names if name not in known]:
            has, its = f"{self.name} has no such table or figure", f"; it has {', '.join(known)}"
            problems = [Problem(None, name, f"{has}{did_you_mean(name, known)}{its}") for name in unknown]
            raise ConfigError(Path("--only"), problems)
        experiments = tuple(experiment for experiment in self.experiments if experiment.name in names)
        used = {name for experiment in experiments for name in experiment.datasets}
        datasets = {name: dataset for name, dataset in self.datasets.items() if name in used}
        return replace(self, experiments=experiments, datasets=datasets, selected=tuple(e.name for e in experiments))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the record of what ran."""
        return {
            "pipeline": self.name,
            "description": self.description,
            "work_dir": self.work_url or str(self.work_dir),
            "dataset": self.dataset,
            "folds": list(self.folds),
            "run": self.run.model_dump(mode="json"),
            "demo_data": self.demo_data.model_dump(mode="json"),
            "datasets": {name: dataset.model_dump(mode="json") for name, dataset in self.datasets.items()},
            "experiments": {experiment.name: _as_dict(experiment) for experiment in self.experiments},
            **self.settings.model_dump(mode="json"),
        }


def _as_dict(experiment: Experiment) -> dict[str, Any]:
    entry = experiment.entry
    described = {"title": entry.title, "show": entry.show, "dataset": experiment.dataset}
    if not experiment.trains:
        return described
    return described | {
        "evaluate_on": experiment.evaluate_on,
        "seeds": list(experiment.seeds),
        "protocol": experiment.protocol,
        "arms": {name: arm.model_dump(mode="json", exclude_defaults=True) for name, arm in experiment.arms.items()},
        "networks": {
            name: {
                section: getattr(settings, section).model_dump(mode="json")
                for section in ("alignment", *TRAINING_SECTIONS)
            }
            for name, settings in experiment.settings.items()
        },
    }


def resolve(
    file: ConfigFile,
    path: Path,
    name: str,
    settings: StageSettings,
    per_network: Mapping[str | None, Mapping[str, StageSettings]],
) -> Pipeline:
    """A pipeline of a valid configuration file.

    Args:
        path: of `file`, to whose folder relative paths belong wherever the command is typed.
        settings: of the pipeline's stages.
        per_network: experiment -> network -> settings, see `Layers.networks`.
    """
    pipeline, folder = file.pipelines[name], path.resolve().parent
    work_dir = scratch(file.work_dir) if is_url(file.work_dir) else folder / file.work_dir
    experiments = []
    for experiment, entry in _experiments(pipeline).items():
        dataset = pipeline.stand_ins.get(entry.dataset or "", entry.dataset) or pipeline.dataset
        across = pipeline.stand_ins.get(entry.evaluate_on or "", entry.evaluate_on)
        experiments.append(
            Experiment(
                experiment,
                entry,
                dataset=dataset,
                evaluate_on=across or dataset,
                arms={arm: file.arms[arm] for arm in entry.arms or pipeline.arms},
                settings=per_network[experiment if pipeline.experiments else None],
                folds=tuple(pipeline.folds),
                seeds=tuple(pipeline.seeds) or (settings.train.seed,),
                protocol=entry.protocol or settings.train.selection,
            )
        )
    datasets = {}
    for used in dict.fromkeys([pipeline.dataset, *(name for e in experiments for name in e.datasets)]):
        dataset_settings = file.datasets[used]
        root = dataset_settings.root if dataset_settings.generated else folder / dataset_settings.root
        datasets[used] = dataset_settings.model_copy(update={"root": root})
    return Pipeline(
        name=name,
        description=pipeline.description,
        work_dir=work_dir,
        tracking_uri=_tracking_uri(file, folder, work_dir),
        run=file.run,
        demo_data=file.demo_data,
        dataset=pipeline.dataset,
        folds=tuple(pipeline.folds),
        datasets=datasets,
        experiments=tuple(experiments),
        published=tuple(folder / extra for extra in file.published),
        settings=settings,
        work_url=file.work_dir if is_url(file.work_dir) else None,
    )


def _tracking_uri(file: ConfigFile, folder: Path, work_dir: Path) -> str:
    """The address in the configuration, else that in the environment, else a database in the work directory."""
    uri, in_environment = file.mlflow.tracking_uri or "", os.environ.get(TRACKING_URI, "")
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{folder / expanded(uri.removeprefix('sqlite:///'))}"
    if not uri and urlsplit(in_environment).password:
        raise ConfigError(Path("environment"), [Problem(None, TRACKING_URI, f"holds a password; {NO_PASSWORD}")])
    return uri or in_environment or f"sqlite:///{work_dir}/mlflow/mlflow.db"


def _experiments(pipeline: PipelineSettings) -> dict[str, ExperimentSettings]:
    """The pipeline's tables and figures. A pipeline that lists none evaluates its arms on their own test part, and on
    its other data sets."""
    if pipeline.experiments:
        return {name: entry for name, entry in pipeline.experiments.items() if entry is not None}
    home = pipeline.dataset
    across = {
        f"across-to-{name}": ExperimentSettings(
            title=f"Trained on {home}, tested on {name} without fine-tuning", evaluate_on=name
        )
        for name in pipeline.cross_datasets
    }
    return {
        "own-test-part": ExperimentSettings(title=f"On the test part of {home}", show="per-class"),
        **across,
        "confusion": ExperimentSettings(title=f"What is taken for what on {home}", show="confusion"),
        "classes": ExperimentSettings(title=f"Clips of each class in {home}", show="class-distribution"),
    }
