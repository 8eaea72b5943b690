"""A VOC 2007 folder of coloured squares, small enough for tests."""

import numpy as np
from PIL import Image

from clear.datasets.readers.voc import VOC_CLASSES

COLOURS = np.random.default_rng(1).integers(20, 236, (len(VOC_CLASSES), 3))


def annotation(objects):
    """XML of (class, is difficult) pairs, with parts inside an object as VOC has them."""
    found = ''.join(f'<object><name>{name}</name><pose>Left</pose><difficult>{int(difficult)}</difficult>'
                    '<part><name>head</name></part></object>' for name, difficult in objects)
    return f'<annotation><folder>VOC2007</folder><filename>x.jpg</filename>{found}</annotation>'


def write_image(path, classes, seed, size=24):
    """Quarters in the colours of the classes, with noise."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3))
    half = size // 2
    for quarter in range(4):
        row, column = half * (quarter // 2), half * (quarter % 2)
        image[row:row + half, column:column + half] = COLOURS[classes[quarter % len(classes)]]
    noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(path, quality=95)


def write_voc(root, per_class=(3, 2, 3), **options):
    """`root/VOCdevkit/VOC2007`: images of one class each, per split (train, val, test), and one of two classes.

    Every third image also has a difficult object of the next class. Returns the folder.
    """
    base = root / 'VOCdevkit' / 'VOC2007'
    for name in ('ImageSets/Main', 'Annotations'):
        (base / name).mkdir(parents=True)
    lists, number = {}, 0
    for split, count in zip(('train', 'val', 'test'), per_class):
        ids = []
        for classes in [[column] for column in range(len(VOC_CLASSES))] * count + [[0, 1]]:
            number += 1
            ids.append(f'{number:06}')
            objects = [(VOC_CLASSES[column], False) for column in classes]
            if number % 3 == 0:
                objects.append((VOC_CLASSES[(classes[-1] + 1) % len(VOC_CLASSES)], True))
            (base / 'Annotations' / f'{ids[-1]}.xml').write_text(annotation(objects))
            write_image(base / 'JPEGImages' / f'{ids[-1]}.jpg', classes, number, **options)
        lists[split] = ids
    lists['trainval'] = lists['train'] + lists['val']
    for split, ids in lists.items():
        (base / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(ids) + '\n')
    return base
