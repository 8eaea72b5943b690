"""The page itself, run by streamlit: `streamlit run page.py -- SESSION.json`, see `clear.curation.app.serve`.

Whatever comes from records, configs and people is shown by `st.text`, which knows no markup.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from clear.core.errors import ClearError
from clear.curation.app.places import ALL, Hit, OpenPlace, Session, thumbnail
from clear.curation.explore import Ranked, histogram, hits_over_time
from clear.curation.retrieval.prompts import read_prompts, write_prompts
from clear.curation.verification.answers import ACCEPT, REJECT, record_answer

_COLUMNS = 6
_MOST_SHOWN = 240
_JUDGED, _NTH = 1000, 40
_RANKS = (1, 200, 400, 600, 800, 1000)
_TOP = 1000
_SIGNS = {ACCEPT: '✓', REJECT: '✗'}


@st.cache_resource(max_entries=4)
def opened(session: str, name: str) -> OpenPlace:
    """A place with its towers; a few are kept."""
    return OpenPlace(next(place for place in Session.read(Path(session)).places if place.name == name))


@st.cache_data(max_entries=64, show_spinner='searching')
def searched(session: str, name: str, text: str, prefix: str, content: bytes | None, bucket: str, last: int) -> Ranked:
    """The first ranks for a text or an image."""
    place = opened(session, name)
    vector = place.of_image(content) if content is not None else place.of_text(text, prefix)
    return place.search(vector, bucket, last)


@st.cache_data(max_entries=32, show_spinner='reading images')
def shown(session: str, name: str, _found: Ranked, key: str) -> list[Hit]:
    """What is shown of a result.

    Args:
        key: of `_found`, which is not hashed.
    """
    return [hit._replace(image=None if hit.image is None else thumbnail(hit.image))
            for hit in opened(session, name).hits(_found)]


def main(session_file: str) -> None:
    """Draw the page."""
    session = Session.read(Path(session_file))
    st.set_page_config(page_title='clear', layout='wide')
    side = st.sidebar
    name = side.selectbox('Data set and encoder', [place.name for place in session.places], key='place')
    place = opened(session_file, name)
    bucket = side.selectbox('Bucket', [ALL, *place.buckets], key='bucket')
    content = _query_image(place)
    text = side.text_input('Text', key='text') if place.place.text_encoder is not None else ''
    prefix = side.text_input('Prefix', key='prefix') if place.place.text_encoder is not None else ''
    first, last = (side.number_input(label, 1, 100_000, value, key=key)
                   for label, value, key in (('From rank', 1, 'first'), ('To rank', 24, 'last')))
    reviewer = side.text_input('Your name, to judge', key='reviewer')
    label = side.text_input('Class that is judged', key='label', placeholder=text)
    query = (text.strip(), prefix, content)
    results, scores, times, judge, groups = st.tabs(['Images', 'Scores', 'Over time', 'Every 40th', 'Prompts'])
    with groups:
        _prompt_groups(session_file, session, place, prefix)
    if not text.strip() and content is None:
        results.info('Type a text, or bring an image.')
        return
    if last < first:
        results.warning('The last rank is before the first.')
        return
    most = max(int(last), _TOP)
    found = searched(session_file, name, *query, bucket, most)
    key = f'{name}/{query[0]}/{prefix}/{hash(content)}/{bucket}'
    with results:
        wanted = found.between(int(first), min(int(last), int(first) + _MOST_SHOWN - 1))
        st.text(f'ranks {first} to {int(first) + len(wanted) - 1} of {bucket}')
        _grid(shown(session_file, name, wanted, f'{key}/{first}-{last}'), session, reviewer,
              (label or text).strip())
    with scores:
        counts = histogram(found.scores)
        st.text(f'scores of the first {len(found)}, mean {counts.mean:.4f}')
        st.bar_chart({f'{edge:.4f}': int(count) for edge, count in zip(counts.edges, counts.counts)}, y_label='images')
    with times:
        st.text(f'the first {len(found)} by bucket')
        st.bar_chart(place.bucket_counts(found), y_label='images')
        st.text('and by month of upload')
        st.bar_chart(hits_over_time(place.banks, found.rows), y_label='images')
    with judge:
        st.text(f'every {_NTH}th of the first {_JUDGED}: is at least every second one right in the first hundreds?')
        _grid(shown(session_file, name, found.between(1, _JUDGED).every(_NTH), f'{key}/every'), None, '', '')


def _query_image(place: OpenPlace) -> bytes | None:
    if place.place.image_encoder is None:
        return None
    given = st.sidebar.file_uploader('Image', key='image')
    return None if given is None else given.getvalue()


def _grid(hits: Sequence[Hit], session: Session | None, reviewer: str, label: str) -> None:
    for start in range(0, len(hits), _COLUMNS):
        for column, hit in zip(st.columns(_COLUMNS), hits[start:start + _COLUMNS]):
            with column:
                _picture(hit)
                if session is not None and reviewer.strip() and label:
                    _judge(hit, session, reviewer.strip(), label)


def _picture(hit: Hit) -> None:
    if hit.image is None:
        st.text('(no image)')
    else:
        st.image(hit.image)
    st.text(f'{hit.rank}   {hit.score:.4f}\n{hit.id}')
    if hit.title:
        st.text(hit.title[:80])
    if hit.link:
        st.link_button('page', hit.link)


def _judge(hit: Hit, session: Session, reviewer: str, label: str) -> None:
    said = st.session_state.setdefault('said', {})
    key = (reviewer, hit.id, hit.bucket, label)
    for column, (verdict, sign) in zip(st.columns(2), _SIGNS.items()):
        if column.button(sign, help=verdict, key='/'.join(('verdict', verdict, *map(str, key))),
                         disabled=hit.bucket is None or not hit.id.isdigit()):
            record_answer(session.answers, reviewer, int(hit.id), hit.bucket, label, verdict)
            said[key] = verdict
    if key in said:
        st.text(f'{said[key]}ed')


def _prompt_groups(session_file: str, session: Session, place: OpenPlace, prefix: str) -> None:
    """Prompts beside each other over buckets, and kept as a config."""
    if place.place.text_encoder is None:
        st.text('There is no text encoder.')
        return
    texts = st.text_area('Prompts, one a line; of "label: prompt" the label names the folder', key='prompts')
    classes: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, texts.splitlines())):
        label, _, prompt = line.rpartition(': ')
        classes.setdefault(label or line, []).append(prompt or line)
    chosen = st.multiselect('Buckets', place.buckets, place.buckets[::max(1, len(place.buckets) // 3)][:3],
                            key='group_buckets')
    if not classes:
        return
    prompts = read_prompts(classes, prefix=prefix)
    if st.button('Save prompts', key='save'):
        write_prompts(session.prompts, prompts, 'Kept by the page; prompts of a stage Retrieval.')
        st.text(f'saved {session.prompts}')
    if st.toggle('Show them at ranks 1, 200, 400 ... 1000', key='compare'):
        for each in prompts.classes:
            for bucket in chosen:
                found = searched(session_file, place.place.name, each.prompts[0], prefix, None, bucket, _TOP)
                st.text(f'{each.label}   bucket {bucket}')
                _grid(shown(session_file, place.place.name, found.at(_RANKS),
                            f'{place.place.name}/{each.prompts[0]}/{prefix}/{bucket}/ranks'), None, '', '')


if __name__ == '__main__':
    try:
        main(sys.argv[1])
    except ClearError as error:
        st.error('This cannot be done:')
        st.text(str(error))
