# Retrieval of images and captions, both ways (docs/retrieval.md says where the data are from).
# A set that is not there fails alone.
_positives = 'data/coco_positives'
tasks = [
    # The 5,000 test images of Karpathy and Fei-Fei (2015, arXiv:1412.2306): COCO-5K, COCO-1K as the mean of five
    # parts, and what ECCV Caption and CxC found to fit as well.
    dict(type='ImageTextRetrieval', name='coco_5k', ks=[1, 5, 10], folds=5,
         positives=dict(eccv=f'{_positives}/eccv_caption.json', cxc=f'{_positives}/cxc.json'),
         data=dict(test=dict(type='CocoCaptions', data_root='data/coco2014', split='val', year=2014,
                             only=f'{_positives}/coco_5k.json'))),
    # All of the 5,000 images of 2017 with all their captions (ITRA's default).
    dict(type='ImageTextRetrieval', name='coco_2017', ks=[1, 5, 10],
         data=dict(test=dict(type='CocoCaptions', data_root='data/coco2017', split='val', year=2017))),
    # A table with the columns filepath and title, a row for each caption: Flickr30K, RSICD and one's own.
    dict(type='ImageTextRetrieval', name='flickr30k', ks=[1, 5, 10],
         data=dict(test=dict(type='ImageTextTable', path='data/flickr30k/test.csv', merge=True))),
]
