"""External knowledge about classes, as ELEVATER appends it to prompts: what a dictionary or a language model says.

Two files a set, JSON in spite of their names:

::

    <folder>/external/<set>_knowledge.tsv   [{"classname", "def_wiki", "path_wn": [hypernyms], "def_wn"}, ...]
    <folder>/gpt3/GPT3_<set>.tsv            [{"classname", "gpt3": [texts]}, ...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clear.core.checks import check_choice, check_flag, check_text, check_whole
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.files import inside, read_json, write_json
from clear.core.logs import logger
from clear.evaluation.elevater.sets import first_names

AGGREGATES = ('WIKI_AND_GPT3', 'WIKI_THEN_GPT3')
MOST_GPT3 = 5
_HYPERNYMS = 3
_MAX_BYTES = 1 << 28


def knowledge_texts(set_name: str, class_names: Sequence[str | Sequence[str]], folder: str | Path, *,
                    wiki: bool = False, wordnet_definition: bool = False, wordnet_hierarchy: bool = False,
                    gpt3: int = 0, aggregate: str = 'WIKI_AND_GPT3') -> list[list[str]]:
    """What to append to every template of each class: each text gives one more copy of the templates.

    Of Wiktionary's definition, WordNet's, and WordNet's hierarchy (the first three hypernyms) one is used: a later one
    of these replaces an earlier one. Texts of GPT-3 come behind it. A text becomes ` ; <class> , <text>`, in words as
    `nltk.tokenize.NLTKWordTokenizer` divides it, each behind a blank. An entry whose text is missing gives an empty
    suffix: the plain templates, which count like those of any other text. A class without any entry has no suffix.

    As K-LITE (Shen et al. 2022, arXiv:2204.09222) and ELEVATER's toolkit have it, but for two things. The toolkit first
    divides a text into sentences, by a model that has to be downloaded: here a full stop inside a text stays with its
    word. And it appends ` ; <class> ,` where a text is empty and not null, as WordNet's are where it has no entry.

    Args:
        set_name: names the files; the benchmark's name of a set.
        class_names: those of the prompts. Of a list of synonyms the first is looked up.
        folder: with `external/` and `gpt3/`, such as `resources/knowledge` of the toolkit.
        gpt3: how many of its (five) texts; 0 for none.
        aggregate: 'WIKI_AND_GPT3' appends both; 'WIKI_THEN_GPT3' takes GPT-3 where a class has no entry of the others.
            An entry without a text is one, as in the toolkit.

    Raises:
        ConfigError: for values that are none, if nothing is asked for, or if nltk is not installed.
        DataError: if a file is missing or is something else, or knows none of the classes.
    """
    for name, value in (('wiki', wiki), ('wordnet_definition', wordnet_definition),
                        ('wordnet_hierarchy', wordnet_hierarchy)):
        check_flag(name, value)
    check_whole('gpt3', gpt3, 0, MOST_GPT3)
    check_choice('aggregate', aggregate, AGGREGATES)
    field = 'path_wn' if wordnet_hierarchy else 'def_wn' if wordnet_definition else 'def_wiki' if wiki else None
    if field is None and not gpt3:
        raise ConfigError('no knowledge is asked for: wiki, wordnet_definition, wordnet_hierarchy or gpt3=1 ... 5.')
    names = first_names(class_names)
    known = {} if field is None else {each['classname']: _text_of(each, field)
                                      for each in read_knowledge(folder, set_name, names)}
    written = read_gpt3(folder, set_name, names) if gpt3 else {}
    words = _word_tokenizer()
    suffixes = []
    for name in names:
        texts = [known[name]] if name in known else []
        if aggregate == 'WIKI_AND_GPT3' or not texts:
            texts += written.get(name, [])[:gpt3]
        suffixes.append([_suffix(name, text, words) for text in texts])
    filled = sum(any(own) for own in suffixes)
    logger.info('knowledge  %s: %d of %d classes have a text, %d texts in all', set_name, filled, len(names),
                sum(sum(map(bool, own)) for own in suffixes))
    return suffixes


def read_knowledge(folder: str | Path, set_name: str, class_names: Sequence[str] | None = None) -> list[dict]:
    """The entries of `external/<set>_knowledge.tsv`, with the keys of `write_knowledge`.

    Args:
        class_names: of which one must be there.

    Raises:
        DataError: if the file is missing or is something else, or has none of these classes.
    """
    return _read(knowledge_file(folder, set_name), _checked_knowledge, class_names)


def read_gpt3(folder: str | Path, set_name: str, class_names: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Class name -> texts, of `gpt3/GPT3_<set>.tsv`.

    Raises:
        DataError: as `read_knowledge`.
    """
    return {each['classname']: each['gpt3'] for each in _read(gpt3_file(folder, set_name), _checked_gpt3, class_names)}


def write_knowledge(folder: str | Path, set_name: str, entries: Sequence[Mapping[str, object]]) -> Path:
    """Write definitions of one's own where `knowledge_texts` reads them; returns the file.

    Args:
        entries: each with `classname`, and any of `def_wiki` and `def_wn` (text, or None) and `path_wn` (hypernyms from
            the nearest on).

    Raises:
        DataError: naming the entry that is something else, or a class that is there twice.
    """
    path = knowledge_file(folder, set_name)
    write_json(path, _checked(entries, _checked_knowledge, str(path)))
    return path


def write_gpt3(folder: str | Path, set_name: str, texts: Mapping[str, Sequence[str]]) -> Path:
    """Write texts of a language model, of any number for each class, where `knowledge_texts` reads them.

    Raises:
        DataError: naming the class whose texts are something else.
    """
    path = gpt3_file(folder, set_name)
    entries = [dict(classname=name, gpt3=list(own) if isinstance(own, (list, tuple)) else own)
               for name, own in texts.items()]
    write_json(path, _checked(entries, _checked_gpt3, str(path)))
    return path


def knowledge_file(folder: str | Path, set_name: str) -> Path:
    """Where a set's definitions lie."""
    return inside(folder, f'external/{check_text("set", set_name)}_knowledge.tsv')


def gpt3_file(folder: str | Path, set_name: str) -> Path:
    """Where a set's texts of a language model lie."""
    return inside(folder, f'gpt3/GPT3_{check_text("set", set_name)}.tsv')


# What the files hold


def _read(path: Path, check: Callable, class_names: Sequence[str] | None) -> list[dict]:
    entries = _checked(read_json(path, _MAX_BYTES), check, str(path))
    known = {each['classname'] for each in entries}
    if class_names is not None and not known & {*class_names}:
        near = nearest(class_names[0], known)
        raise DataError(f"{path} knows none of the {len(class_names)} classes, such as '{class_names[0]}'"
                        f'{f"; nearest: {near}" if near else ""}. It goes by the class names of its prompts.')
    return entries


def _checked(entries: object, check: Callable, where: str) -> list[dict]:
    """Entries in order, each as `check` gives it.

    Raises:
        DataError: naming the first that is something else.
    """
    if not isinstance(entries, (list, tuple)):
        raise DataError(f'{where} should hold a list of entries, one for each class.')
    found, names = [], set()
    for place, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not isinstance(entry.get('classname'), str):
            raise DataError(f'{where}: entry {place} has no classname that is a text.')
        name = entry['classname']
        if name in names:
            raise DataError(f"{where}: the class '{name}' is there twice.")
        names.add(name)
        try:
            found.append(dict(classname=name, **check(entry)))
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: class '{name}' {error}.") from error
    return found


def _checked_knowledge(entry: Mapping) -> dict:
    for key in ('def_wiki', 'def_wn'):
        if not isinstance(entry.get(key), (str, type(None))):
            raise TypeError(f'has a {key} that is neither a text nor null')
    path = entry.get('path_wn')
    path = path.split() if isinstance(path, str) else list(path or [])  # '' where WordNet has none
    if not all(isinstance(each, str) for each in path):
        raise TypeError('has a path_wn that is no list of texts')
    return dict(def_wiki=entry.get('def_wiki'), path_wn=path, def_wn=entry.get('def_wn'))


def _checked_gpt3(entry: Mapping) -> dict:
    texts = entry.get('gpt3')
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError('has a gpt3 that is no list of texts')
    return dict(gpt3=texts)


# From a text to a suffix


def _text_of(entry: dict, field: str) -> str | None:
    return ' '.join(entry['path_wn'][:_HYPERNYMS]) if field == 'path_wn' else entry[field]


def _suffix(name: str, text: str | None, words: Callable[[str], list[str]]) -> str:
    return f' {" ".join(words(f" ; {name} , {text}"))}' if text else ''


def _word_tokenizer() -> Callable[[str], list[str]]:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise ConfigError("Knowledge needs nltk to divide texts into words: pip install 'clear-framework[zeroshot]'."
                          ) from error
    return NLTKWordTokenizer().tokenize
