"""The shipped configuration, and pipelines by name."""

from __future__ import annotations

import pytest
from config_texts import SHIPPED

from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline, read_config


def test_the_shipped_file_is_valid():
    names = [pipeline.name for pipeline in read_config(SHIPPED)[1]]
    assert names[:8] == [
        "demo",
        "alignment-demo",
        "dfew-full",
        "dfew-fold1",
        "ferv39k",
        "paper",
        "crema-d",
        "paper-demo",
    ]
    assert {"mafw", "ravdess", "ferplus", "own"} <= set(names[8:])


def test_an_unknown_pipeline_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean dfew-full"):
        load_pipeline("dfew-ful", SHIPPED)


def test_the_shipped_paper_names_every_table_and_figure():
    by_name = {pipeline.name: pipeline for pipeline in read_config(SHIPPED)[1]}
    numbered = {*(f"table-{n}" for n in range(1, 8)), *(f"figure-{n}" for n in range(4, 7))}
    assert numbered <= {e.name for e in by_name["paper"].experiments}
    assert [e.name for e in by_name["paper-demo"].experiments] == [e.name for e in by_name["paper"].experiments]
    assert numbered - {e.name for e in by_name["crema-d"].experiments} == {"table-4", "table-5"}
    for name in ("paper", "paper-demo"):
        for experiment in by_name[name].experiments:
            published = experiment.entry.published
            assert published is None or published == experiment.name
