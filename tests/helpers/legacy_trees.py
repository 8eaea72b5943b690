"""Trees, buckets and pickles as the earlier curation wrote them, in both generations."""

import json
import pickle
import random
import sys
from dataclasses import make_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

from PIL import Image

FIELDS = ('ID', 'USER_ID', 'NICKNAME', 'DATE_TAKEN', 'DATE_UPLOADED', 'DEVICE', 'TITLE', 'DESCRIPTION', 'USER_TAGS',
          'MACHINE_TAGS', 'LON', 'LAT', 'GEO_ACCURACY', 'PAGE_URL', 'DOWNLOAD_URL', 'LICENSE_NAME', 'LICENSE_URL',
          'SERVER_ID', 'FARM_ID', 'SECRET', 'SECRET_ORIGINAL', 'EXT', 'IMG_OR_VIDEO', 'AUTO_TAG_SCORES', 'LINE_NUM',
          'EXIF', 'HASH_VALUE')


def record(number, rng, folder):
    """One photo as the second generation has it."""
    uploaded = datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(40) * 7_000_000)
    taken = uploaded - timedelta(seconds=rng.randrange(1, 9_999_999))
    values = dict.fromkeys(FIELDS, '') | dict(
        ID=str(1000 + number * 7 % 997), USER_ID='1@N00', DATE_TAKEN=f'{taken:%Y-%m-%d %H:%M:%S}.0',
        DATE_UPLOADED=str(int(uploaded.timestamp())), TITLE=rng.choice(['caf%C3%A9+bar', 'a%2Cb', '"x', 'naïve']),
        USER_TAGS='new+york,b', DOWNLOAD_URL=f'http://static.example/{number}.jpg', EXT='jpg', IMG_OR_VIDEO=0,
        AUTO_TAG_SCORES=rng.choice([{}, {'bus: red': 0.75, 'road': 0.5}]), LINE_NUM=str(number), EXIF=None,
        SERVER_ID='3000', FARM_ID='4', HASH_VALUE=f'{number:032x}')
    return values | dict(IMG_DIR=str(folder), IMG_PATH=f'{values["ID"]}.jpg')


def write_tree(root, count=23, chunk=10, generation=2, seed=0):
    """`all_folders.*`, and chunks with their records and images; the records in order."""
    rng, found, folders = random.Random(seed), [], {}
    for index in range(-(-count // chunk)):
        images = root / str(index) / 'images'
        images.mkdir(parents=True)
        records = [record(number, rng, images) for number in range(index * chunk, min(count, (index + 1) * chunk))]
        for each in records:
            colour = tuple(rng.randrange(256) for _ in range(3))
            Image.new('RGB', (8, 6), colour).save(images / each['IMG_PATH'])
        name = f'metadata.{"json" if generation == 2 else "pickle"}'
        folders[index] = dict(folder=str(root / str(index)), num_images=len(records), image_folder=str(images),
                              metadata_location=str(root / str(index) / name))
        if generation == 2:
            (root / str(index) / name).write_text(json.dumps(records))
        else:
            dump_records(records, root / str(index) / name, protocol=index % 3 * 2)
        found += records
    if generation == 2:
        # As its own program left them: keys that sort as text, here in no order.
        (root / 'all_folders.json').write_text(json.dumps({str(key): folders[key] for key in reversed(folders)}))
    else:
        with_classes(lambda module: (root / 'all_folders.pickle').write_bytes(pickle.dumps(
            [_filled(module.FlickrFolder, dict(idx=index, last_index=(index + 1) * chunk, **values))
             for index, values in folders.items()], 2)))
    return found


def dump_records(records, path, protocol=2):
    """A list of `Metadata` with a dataclass whose IMG_PATH is absolute."""
    def dump(module):
        kind, found = module.MetadataObject, []
        for each in records:
            values = each | dict(IMG_PATH=f'{each["IMG_DIR"]}/{each["IMG_PATH"]}', IMG_DIR=None)
            found.append(_filled(module.Metadata, dict(metadata=kind(**values))))
        Path(path).write_bytes(pickle.dumps(found, protocol))
    with_classes(dump)


def with_classes(work):
    """Do something while a module `temp` has the classes of the first generation."""
    module = ModuleType('temp')
    for name in ('FlickrFolder', 'Metadata'):
        setattr(module, name, type(name, (), {'__module__': 'temp'}))
    module.MetadataObject = make_dataclass('MetadataObject', [*FIELDS, 'IMG_PATH', 'IMG_DIR'])
    module.MetadataObject.__module__ = 'temp'
    sys.modules['temp'] = module
    try:
        return work(module)
    finally:
        del sys.modules['temp']


def _filled(kind, values):
    made = kind()
    made.__dict__.update(values)
    return made


def bucket(records, places, folder):
    """One bucket as `bucket_<b>.json` has it."""
    chosen = [records[place] for place in places]
    seconds = [each['DATE_UPLOADED'] for each in chosen]
    dates = [str(datetime.fromtimestamp(int(each), UTC).replace(tzinfo=None)) for each in seconds]
    return dict(indices=list(places), all_metadata=chosen, folder_path=str(folder), min_date=dates[0],
                max_date=dates[-1], date_uploaded_list=seconds)
