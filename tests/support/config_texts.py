"""Small configurations, and what reading them gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfer.config.pipeline import Pipeline
from dfer.config.problems import ConfigError
from dfer.config.reading import read_config

SHIPPED = Path(__file__).parents[2] / "pipeline_config.yaml"

VALID = """\
datasets:
  dfew: {layout: dfew, root: DFEW}
sampling:
  num_segments: 8
mixing:
  alpha: 0.4
train:
  epochs: 10
arms:
  midas: {labels: soft, mixing: midas, normalize: softmax}
pipelines:
  one:
    description: A pipeline
    dataset: dfew
    arms: [midas]
    settings:
      train: {epochs: 3}
"""
"""One pipeline without experiments."""

TWO = """\
datasets:
  dfew: {layout: dfew, root: DFEW}
  afew: {layout: afew, root: AFEW}
  other: {layout: afew, root: OTHER}
networks:
  r3d_18: {model: {pretrained: kinetics400}}
arms:
  hard: {labels: hard}
  soft: {labels: soft}
  midas: {labels: soft, mixing: midas, normalize: softmax}
  same-midas: {labels: soft, mixing: midas, normalize: softmax, alpha: 0.4}
  strong: {labels: soft, mixing: midas, normalize: softmax, alpha: 2}
pipelines:
  paper:
    description: Tables
    dataset: dfew
    folds: [1, 2]
    arms: [hard, midas]
    stand_ins: {afew: other}
    experiments: &tables
      first: {title: First}
      second: {title: Second, arms: [midas, soft]}
      across: {title: Across, evaluate_on: afew}
      figure: {title: Figure, show: coexistence}
  less:
    description: Fewer tables
    dataset: dfew
    arms: [hard]
    seeds: [0, 3]
    experiments:
      <<: *tables
      across: null
      second: {title: Other, models: [r3d_18, resnet18_tsm]}
"""
"""Two pipelines with experiments."""


def problems(tmp_path: Path, text: str, *overrides: str) -> list[tuple[int | None, str, str]]:
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    return [(p.line, p.key, p.message) for p in caught.value.problems]


def pipelines(tmp_path: Path, text: str = TWO, *overrides: str) -> dict[str, Pipeline]:
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(text)
    return {pipeline.name: pipeline for pipeline in read_config(path, overrides)[1]}


def write(tmp_path: Path, text: str = VALID) -> Path:
    """The configuration as a file, beside an empty folder for its data set."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    (tmp_path / "DFEW").mkdir()
    return path
