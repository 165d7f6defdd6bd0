"""The TFDS builder of a recipe: name, config and version are the recipe's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from rnn_jax.data.builders.recipe import Recipe
from rnn_jax.data.texts import Texts, content_hash


class RecipeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Features text and label; splits train, validation, test."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, recipe: Recipe, **kwargs: Any) -> None:
        self.name = recipe.name
        self.VERSION = tfds.core.Version(recipe.version)
        self._recipe = recipe
        super().__init__(config=tfds.core.BuilderConfig(name=recipe.config), **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(self._recipe.class_names)),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        origin, splits = self._recipe.make(lambda url: Path(dl_manager.download(url)))
        metadata: Any = self.info.metadata
        metadata.update(origin=origin, content=content_hash(self._recipe.class_names, splits))
        return {name: self._generate_examples(split) for name, split in splits.items()}

    def _generate_examples(self, split: Texts) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (text, label) in enumerate(zip(split.texts, split.labels.tolist(), strict=True)):
            yield i, {"text": text, "label": label}


def builder_of(recipe: Recipe, data_dir: Path) -> RecipeBuilder:
    """Return the builder that keeps the recipe's data set under ``data_dir``."""
    return RecipeBuilder(recipe=recipe, file_format="array_record", data_dir=data_dir)
