"""`pipeline_config.yaml`, read strictly: every problem is reported, with its line, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfer.class_names import class_name
from dfer.config.checks import check_names, missing_resources
from dfer.config.file import Source, mapping, names, read_source
from dfer.config.layers import Layers
from dfer.config.pipeline import Pipeline, resolve
from dfer.config.problems import ConfigError, Problem
from dfer.config.settings import ConfigFile, StageSettings
from dfer.config.suggestions import did_you_mean

DEFAULT_CONFIG = Path("pipeline_config.yaml")


def load_pipeline(
    name: str, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = (), only: Sequence[str] = ()
) -> Pipeline:
    """One pipeline, ready to run; its data sets and model files exist.

    Args:
        overrides: as in `read_config`.
        only: names of the tables and figures to make; all of them if there is none.

    Raises:
        ConfigError: everything that is wrong in the file, an unknown name, or paths that do not exist.
    """
    _, pipelines = read_config(path, overrides)
    pipeline = pipeline_named(name, pipelines, path)
    pipeline = pipeline.only(only) if only else pipeline
    if problems := missing_resources(pipeline, path, overrides):
        raise ConfigError(path, problems)
    return pipeline


def read_config(path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> tuple[ConfigFile, list[Pipeline]]:
    """Read and check a configuration file. `missing_resources` checks what it needs on this machine.

    Args:
        overrides: `key.path=value` pairs with YAML values; they win over the file and over a pipeline's own settings.

    Returns:
        The file as it stands, and every pipeline with all names looked up.

    Raises:
        ConfigError: with all problems at once.
    """
    source = read_source(path, overrides)
    file = source.validate(ConfigFile, source.tree)
    pipelines: list[Pipeline] = []
    # even if the file as a whole is not valid: all problems are reported together
    for key, written in mapping(source.tree.get("pipelines")).items():
        name, written = str(key), mapping(written)
        check_names(source, name, written)
        layers = Layers(source, name, written)
        settings = layers.settings()
        per_network = {
            experiment: {model: valid for model in models if (valid := layers.settings(experiment, model))}
            for experiment, models in layers.networks().items()
        }
        if file is not None and settings is not None and not source.problems:
            pipelines.append(resolve(file, path, name, settings, per_network))
    _raise_any(source)
    assert file is not None
    return file, pipelines


def renamed_classes(name: str, path: Path = DEFAULT_CONFIG, overrides: Sequence[str] = ()) -> list[str]:
    """Those classes of a pipeline's `labels.classes` that have another name in tables: 'joy counts as happy'.
    For a configuration that is valid; arguments as for `load_pipeline`."""
    source = read_source(path, overrides)
    pipeline = mapping(mapping(source.tree.get("pipelines")).get(name))
    written = names(Layers(source, name, pipeline).written("labels").get("classes"))
    return [f"{one} counts as {class_name(one)}" for one in written if class_name(one) != one.strip().casefold()]


def pipeline_named(name: str, pipelines: Sequence[Pipeline], path: Path) -> Pipeline:
    """The pipeline of that name. Raises ConfigError if there is none."""
    by_name = {pipeline.name: pipeline for pipeline in pipelines}
    if name not in by_name:
        message = f"no such pipeline{did_you_mean(name, by_name)}; there are {', '.join(by_name)}"
        raise ConfigError(path, [Problem(None, f"pipelines.{name}", message)])
    return by_name[name]


def stage_settings(overrides: Sequence[str]) -> StageSettings:
    """The defaults of all stages, with some `key.path=value` pairs. Raises ConfigError with all problems at once."""
    source = Source(Path("--set"))
    source.override(overrides)
    settings = source.validate(StageSettings, source.tree)
    _raise_any(source)
    assert settings is not None
    return settings


def _raise_any(source: Source) -> None:
    if source.problems:
        by_line = sorted(dict.fromkeys(source.problems), key=lambda p: (p.line is None, p.line or 0, p.key))
        raise ConfigError(source.path, by_line)
