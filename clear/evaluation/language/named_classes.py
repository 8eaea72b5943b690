"""What tasks share that meet images of known classes with the names of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from clear.evaluation.image.rows import LabelledRows, check_splits, class_names_of, read_rows
from clear.evaluation.language.prompts import ClassPrompts, Prompting, check_encodes_text
from clear.evaluation.task import TaskData


class NamedClasses:
    """A task on the images of 'test' and the names of their classes.

    Args:
        names, templates, match: see `Prompting`.
    """

    needs: tuple[str, ...] = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)
    reads_labels: bool = True

    def __init__(self, names: Sequence[str | Sequence[str]] | str | Mapping | None,
                 templates: Sequence[str] | str | Mapping | None, match: str, device: str):
        self.prompting = Prompting(names, templates, match)
        self.device = device

    def read(self, encoder: nn.Module | None, data: TaskData
             ) -> tuple[Callable[[list[str]], Tensor], LabelledRows, ClassPrompts, dict[str, object]]:
        """`encode_text`, the labelled images, their classes, and what all such tasks say in `extras`.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, or names that do not fit its classes.
        """
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        rows, unlabelled = read_rows(data.bank['test'], 'test', self.device)
        classes = self.prompting.of(class_names_of(data.bank['test'], rows.labels))
        extras = dict(n_test=len(rows), **classes.extras(encoder))
        return encode, rows, classes, {**extras, **({'unlabelled': {'test': unlabelled}} if unlabelled else {})}

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse images whose classes the names do not fit.

        Raises:
            DataError: saying why.
        """
        self.prompting.check(known)

    def files_fingerprint(self) -> str:
        """A digest of names and prompts, of whatever file or package."""
        return self.prompting.fingerprint()
