# python tools/curate.py configs/curation/yfcc_clear10_verified.py
#
# The same, with what people accepted alone: 150 images of each class and bucket, as CLEAR-10 has of its test set. The
# batches are written and the answers read by tools/curation/review.py.
_base_ = ['yfcc_clear10_export.py']
stages = [
    dict(type='Verified', answers=['review/batch_000.ann.csv', 'review/batch_000.bob.csv'], rule='majority',
         min_reviewers=2, num_images=150),
    dict(type='Export', out_dir='data/yfcc_clear10_verified', images='hardlink', testset_ratio=0.3),
]
