"""A pipeline's settings, which are written in several places and laid over one another."""

from __future__ import annotations

from dataclasses import dataclass

from dfer.config.catalogue import network, recipe_of
from dfer.config.file import KeyPath, Source, Tree, mapping, merge, names, nest
from dfer.config.settings import TRAINING_SECTIONS, ModelSettings, StageSettings


@dataclass(frozen=True)
class Layers:
    """The layers of one pipeline, the later over the earlier.

    1. the sections of the file
    2. the recipe that the network was published with (`dfer.config.catalogue`)
    3. `networks.NETWORK` of the file
    4. the pipeline's `settings`
    5. the pipeline's `networks.NETWORK`
    6. the experiment's `settings`
    7. --set
    """

    source: Source
    name: str
    pipeline: Tree

    def networks(self) -> dict[str | None, list[str]]:
        """Experiment -> the networks it names; of a pipeline without experiments, None -> its network."""
        experiments: dict[str | None, list[str]] = {
            name: names(mapping(entry).get("models")) or [self._default_network()]
            for name, entry in mapping(self.pipeline.get("experiments")).items()
            if entry is not None
        }
        return experiments or {None: [self._default_network()]}

    def settings(self, experiment: str | None = None, model: str | None = None) -> StageSettings | None:
        """The settings for one network of one experiment, with its frames and size filled in.
        None if they are not valid, which is noted in the source's problems."""
        model = model or self._default_network()
        named = self._named(experiment, model)
        for at, layer in named:
            for section in layer:
                own_faces = section == "alignment" and at[-1] == "settings"  # an experiment may compare alignments
                if section in StageSettings.model_fields and section not in TRAINING_SECTIONS and not own_faces:
                    message = f"is the same for all of a pipeline; put it under pipelines.{self.name}.settings"
                    self.source.complain((*at, section), message)
        of_network, of_network_here, of_experiment = (layer for _, layer in named)
        merged: Tree = {name: self.source.tree[name] for name in StageSettings.model_fields if name in self.source.tree}
        recipe = {section: dict(values) for section, values in recipe_of(model).items()}
        layers = (recipe, of_network, mapping(self.pipeline.get("settings")), of_network_here, of_experiment)
        for layer in (*layers, *self._overrides(), {"model": {"name": model}}):
            merged = merge(merged, layer)
        at = ("pipelines", self.name, *(("experiments", experiment) if experiment else ()), "settings")
        settings = self.source.validate(StageSettings, merged, at)
        if settings is None:
            return None
        default = network(settings.model.name)
        frames = settings.sampling.num_segments or default.num_segments
        size = settings.model.input_size or default.input_size
        sampling = settings.sampling.model_copy(update={"num_segments": frames})
        sized = settings.model.model_copy(update={"input_size": size})
        return settings.model_copy(update={"sampling": sampling, "model": sized})

    def written(self, section: str) -> Tree:
        """The pipeline's values of a section as they are written, whatever network or experiment."""
        merged = mapping(self.source.tree.get(section))
        for layer in (mapping(self.pipeline.get("settings")), *self._overrides()):
            merged = merge(merged, mapping(layer.get(section)))
        return merged

    def _default_network(self) -> str:
        return str(self.written("model").get("name", ModelSettings().name))

    def _named(self, experiment: str | None, model: str) -> list[tuple[KeyPath, Tree]]:
        """The layers for one network or one experiment, with the keys under which they are written."""
        entry = mapping(mapping(self.pipeline.get("experiments")).get(experiment or ""))
        here = ("pipelines", self.name)
        return [
            (("networks", model), mapping(mapping(self.source.tree.get("networks")).get(model))),
            ((*here, "networks", model), mapping(mapping(self.pipeline.get("networks")).get(model))),
            ((*here, "experiments", experiment or "", "settings"), mapping(entry.get("settings"))),
        ]

    def _overrides(self) -> list[Tree]:
        return [nest(keys, value) for keys, value in self.source.overrides if keys[0] in StageSettings.model_fields]
