# python tools/curate.py configs/curation/url_list.py
#
# The images of a list of addresses, one in a line.
stages = [
    dict(type='UrlList', root='data/urls', files='*.txt'),
    dict(type='Download', valid_dates=False, max_failed=0.5),
]
