"""Small streams of one's own: a table of posts, and a folder of photos."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image


def write_posts(path: Path, count: int = 30) -> dict[int, datetime]:
    """A CSV of posts (post, image_url, posted, caption), every third with a day alone; id -> when it was posted."""
    days = {}
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['post', 'image_url', 'posted', 'caption'])
        for number in range(count):
            when = datetime(2012, 2, 1, 12, 30) + timedelta(days=31 * number)
            when = datetime(when.year, when.month, when.day) if number % 3 == 0 else when
            text = f'{when:%Y-%m-%d}' if number % 3 == 0 else f'{when:%Y-%m-%d %H:%M:%S}'
            writer.writerow([1000 + number, f'http://images.example/{number}.jpg', text,
                             f'post {number}, "quoted"\nover two lines'])
            days[1000 + number] = when
    return days


def write_photos(folder: Path, count: int = 8) -> dict[str, datetime]:
    """Photos of noise in two folders, by turns with EXIF and with a name that tells the time; path -> when it was
    taken."""
    times, rng = {}, np.random.default_rng(0)
    for number in range(count):
        when = datetime(2013, 1, 15, 10, 20, 30) + timedelta(days=40 * number)
        path = f'{"ab"[number % 2]}/' + (f'IMG_{when:%Y%m%d_%H%M%S}_{number}.jpg' if number % 2 else f'{number}.jpg')
        (folder / path).parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0131] = 'camera'
        if not number % 2:
            exif.get_ifd(0x8769)[36867] = f'{when:%Y:%m:%d %H:%M:%S}'
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / path, exif=exif)
        times[path] = when
    return times
