# python tools/curate.py configs/curation/own_photos_months.py
#
# A folder of photos by the months in which the camera says that they were taken, else the names of their files.
root = 'data/own_photos'
stages = [
    dict(type='PhotoFolder', root=root, time=['exif', 'name'], name_format='IMG_%Y%m%d_%H%M%S*'),
    # What is copied into the stage is what was there: a photo that changes later changes nothing.
    dict(type='Download', source=dict(type='Folder', root=root), valid_dates=False),
    dict(type='TimeBuckets', of='images', by='taken_at',
         rule=dict(type='Calendar', every='month', first='2013-01', last='2013-12')),
]
