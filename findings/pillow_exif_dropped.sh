#!/usr/bin/env bash
# Pillow 13.0.0: an Exif object whose tags all stand in a directory below, as DateTimeOriginal does, saved with exif=.
# Expected: each format that can hold it writes it, whether it is handed over as the object or as its tobytes().
# Seen: JPEG and WebP write it. PNG and AVIF take the object as empty, bool(exif) is False, and drop it without a word.
# TIFF drops the new directory too, also beside a tag of the first directory. The same exif as bytes is kept by all five.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pillow==13.0.0
"$folder/env/bin/python" - <<'EOF'
import io

from PIL import ExifTags, Image

date, make = ExifTags.Base.DateTimeOriginal, ExifTags.Base.Make


def kept(form, exif):
    buffer = io.BytesIO()
    Image.new('RGB', (32, 32)).save(buffer, form, exif=exif)
    return Image.open(buffer).getexif().get_ifd(ExifTags.IFD.Exif).get(date) == '2024:05:06 07:08:09'


def build(tags={}):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[date] = '2024:05:06 07:08:09'
    exif.update(tags)
    return exif


found = {}
for form in ('JPEG', 'WEBP', 'PNG', 'AVIF', 'TIFF'):
    found[form] = (kept(form, build()), kept(form, build(tags={make: 'maker'})), kept(form, build().tobytes()))
    print('{}: date kept from the object {}, with Make beside it {}, from bytes {}'.format(form, *found[form]))
print('bool of the object:', bool(build()))
assert found == {'JPEG': (True, True, True), 'WEBP': (True, True, True), 'PNG': (False, True, True),
                 'AVIF': (False, True, True), 'TIFF': (False, False, True)}, 'changed: what the formats keep'
EOF
