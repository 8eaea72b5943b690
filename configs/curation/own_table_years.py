# python tools/curate.py configs/curation/own_table_years.py
#
# A stream of one's own: a table with addresses and the days they were posted, fetched and cut into years.
stages = [
    dict(type='TableRecords', root='data/own_stream', files='posts.csv', url='image_url', id='post',
         # The first format that fits counts; a day alone is its midnight.
         time='posted', time_format=['%Y-%m-%d %H:%M:%S', '%Y-%m-%d'], keep=dict(title='caption')),
    # The table tells one time only, so that no date of the camera can be compared with it.
    dict(type='TimeBuckets', rule=dict(type='Calendar', every='year', first='2012', last='2014'), valid_dates=False),
    dict(type='Download', valid_dates=False),
]
