"""Labelled images as pairs: the name of the class in a template is the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow

from clear.core.errors import DataError
from clear.datasets.prompts import TEMPLATES, check_templates, class_prompts, readable_names
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='PromptedClassification')
def prompted_classification(images: Mapping, names: Sequence[str] | None = None,
                            templates: Sequence[str] = TEMPLATES) -> ImageTable:
    """Images of any reader, with a caption for each template: `{}` in it becomes the class name. Labels are kept.

    Args:
        images: `dict(type=READER, ...)`; images without a label are refused.
        names: what classes are called in captions, in their order; None takes the reader's names, with blanks for `_`
            and `/`.

    Raises:
        ConfigError: for a template without `{}`.
        DataError: for images without labels, or another number of names than classes.
    """
    found = read_images(images, 'images')
    labels = found.label_array()
    if (labels < 0).any():
        raise DataError(f'{found.root}: {int((labels < 0).sum())} of {len(found)} images have no label, and so no '
                        'caption.')
    known = readable_names(found.class_names)
    names = known if names is None else [str(name) for name in names]
    if len(names) != len(known):
        raise DataError(f'names has {len(names)} names, {found.root} has {len(known)} classes.')
    templates = check_templates(templates)
    prompts = class_prompts(names, templates)
    # Of each class once, however many images it has.
    lists = pyarrow.array([prompts[start:start + len(templates)] for start in range(0, len(prompts), len(templates))],
                          pyarrow.list_(pyarrow.string()))
    captions = pyarrow.DictionaryArray.from_arrays(pyarrow.array(labels.astype(np.int32)), lists)
    return found.with_column('caption', captions)
