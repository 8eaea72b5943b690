"""Word similarity: do pairs of words that people find similar lie close?"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text
from clear.core.errors import ConfigError, DataError
from clear.datasets.prompts import check_templates
from clear.evaluation.language.prompt_lists import prompt_list
from clear.evaluation.language.prompts import class_vectors
from clear.evaluation.metrics.correlation import pearson, spearman
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import as_number, files_fingerprint, read_lines
from clear.evaluation.text.similarities import pair_similarities
from clear.registry import TASKS

SETS = ('rg65', 'simlex999', 'wordsim353')
PROMPTINGS = ('none', 'average', 'rows')
# Of the lists that gensim ships with its tests; it has no RG65.
_GENSIM = dict(simlex999='simlex999.txt', wordsim353='wordsim353.tsv')
_SEPARATORS = {'.csv': ';'}
Pairs = list[tuple[str, str, float]]


@TASKS.register_module()
class WordSimilarity:
    """Rank correlation of the cosine of two words and human scores: RG65, SimLex-999, WordSim-353.

    The value is Spearman's correlation, `spearman`, between -1 and 1; `pearson` stands beside it. A pair that is listed
    twice counts twice.

    Args:
        dataset: 'rg65', 'simlex999' or 'wordsim353'.
        root: folder with `rg65.csv` and so on: word; word; score, without names of columns. 'package:gensim' reads the
            lists of two of the sets that gensim ships.
        path: a file in place of `dataset` and `root`.
        separator: of cells; by default ';' in `.csv`, else a tab. Lines that begin with `#` are comments.
        prompting: 'none' compares the words themselves; 'average' the mean of the unit vectors of a word in every
            template, as towers of images and texts have seen words; 'rows' compares in every template by itself, and
            correlates over pairs x templates (ITRA).
        templates: prompts with `{}`, or the name of a list of them, see `prompt_list`: by default the 80 of ImageNet.

    Raises:
        ConfigError: for an unknown choice, or no place to read from.

    Example:
        >>> words = dict(cat=[1.0, 0.1], dog=[0.9, 0.3], car=[0.0, 1.0])
        >>> encode = lambda texts: torch.tensor([words[text] for text in texts])
        >>> found = WordSimilarity.measure(encode, [('cat', 'dog', 9.0), ('dog', 'car', 3.0), ('cat', 'car', 2.5)])
        >>> round(found['spearman'], 6)
        1.0
    """

    needs: ClassVar = ('text_encoder',)

    def __init__(self, *, dataset: str | None = None, root: str | None = None, path: str | None = None,
                 separator: str | None = None, prompting: str = 'average',
                 templates: str | Sequence[str] | dict = 'imagenet'):
        if (path is None) == (root is None) or (root is None) != (dataset is None):
            raise ConfigError('WordSimilarity reads a dataset of a root, or the file at path: give '
                              "dataset='simlex999', root='data/text/words', or path='pairs.csv'.")
        if separator is not None and (not isinstance(separator, str) or len(separator) != 1):
            raise ConfigError(f'separator is {separator!r}; expected one character.')
        if dataset is not None:
            check_choice('dataset', dataset, SETS)
        self.path = Path(check_text('path', path)) if path is not None else \
            _set_file(check_text('root', root), dataset)
        self.separator = _SEPARATORS.get(self.path.suffix.lower(), '\t') if separator is None else separator
        self.prompting = check_choice('prompting', prompting, PROMPTINGS)
        self.templates = templates
        self._listed = self._templates()

    def files_fingerprint(self) -> str:
        """Of the file that it reads, and of the templates, whatever file or package they are from."""
        templates = json.dumps(self._listed)
        return hashlib.sha256(f'{files_fingerprint([self.path])} {templates}'.encode()).hexdigest()

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Encode the words and correlate.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a file that is missing or of another layout, or embeddings that are not finite.
        """
        read = TextReader(encoder, type(self).__name__)
        pairs = read_word_pairs(self.path, self.separator)
        metrics = self.measure(read, pairs, self.prompting, self._listed)
        extras = dict(metrics=metrics, n_test=len(pairs), prompting=self.prompting)
        if self.prompting != 'none':
            extras['templates'] = self.templates if isinstance(self.templates, str) else list(self._listed)
        return TaskResult('spearman', metrics['spearman'], True, {**extras, **read.extras()})

    @staticmethod
    def measure(encode: Callable[[list[str]], Tensor], pairs: Pairs, prompting: str = 'none',
                templates: Sequence[str] = ()) -> dict[str, float]:
        """The metrics of pairs (word, word, score).

        Args:
            encode: list of N strings -> (N, D).
        """
        words = list(dict.fromkeys(word for pair in pairs for word in pair[:2]))
        place = {word: row for row, word in enumerate(words)}
        first, second = (torch.tensor([place[pair[side]] for pair in pairs]) for side in (0, 1))
        scores = torch.tensor([score for _, _, score in pairs], dtype=torch.float64)
        if check_choice('prompting', prompting, PROMPTINGS) == 'rows':
            # One template after another: memory does not grow with their number.
            each = [_cosines(encode([template.replace('{}', word) for word in words]), first, second)
                    for template in templates]
            cosine, scores = torch.cat(each), scores.repeat(len(templates))
        else:
            vectors = encode(words) if prompting == 'none' else class_vectors(encode, words, templates)
            cosine = _cosines(vectors, first, second)
        return dict(spearman=spearman(cosine, scores), pearson=pearson(cosine, scores))

    def _templates(self) -> list[str]:
        if self.prompting == 'none':
            return []
        if isinstance(self.templates, (str, dict)):
            found = prompt_list(self.templates).templates
            if not found:
                raise ConfigError(f'templates is {self.templates!r}, a list without templates.')
            return list(found)
        return check_templates(self.templates)


def read_word_pairs(path: Path, separator: str) -> Pairs:
    """(word, word, score) of a file.

    Raises:
        DataError: for a file that is missing, of another layout, or has fewer than two pairs.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith('#'):
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) < 3 or not cells[0] or not cells[1]:
            raise DataError(f'{path}:{number}: expected word, word, score with {separator!r} between them, found '
                            f"'{line:.60}'.")
        pairs.append((cells[0], cells[1], as_number(cells[2], path, number)))
    if len(pairs) < 2 or len({score for _, _, score in pairs}) < 2:
        raise DataError(f'{path} has {len(pairs)} pairs with {len({score for _, _, score in pairs})} different scores; '
                        'a correlation needs two.')
    return pairs


def _set_file(root: str, dataset: str) -> Path:
    if not root.startswith('package:'):
        return Path(root) / f'{dataset}.csv'
    package = root.removeprefix('package:')
    if package != 'gensim' or dataset not in _GENSIM:
        raise ConfigError(f"root is {root!r}; 'package:gensim' has {' and '.join(_GENSIM)}, and no other package is "
                          f'read. {dataset} was asked for.')
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("root='package:gensim' needs it: pip install 'clear-framework[align]'.")
    return Path(spec.submodule_search_locations[0]) / 'test' / 'test_data' / _GENSIM[dataset]


def _cosines(vectors: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return pair_similarities(vectors[first], vectors[second], ['cosine'])['cosine']
