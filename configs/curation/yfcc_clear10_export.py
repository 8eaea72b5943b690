# python tools/curate.py configs/curation/yfcc_clear10_export.py
#
# What was selected for CLEAR-10 as CLEAR's folder tree: images by bucket and class, metadata, lists, and the published
# splits (70/30 of whole buckets, seeds 0 to 4).
stages = [dict(type='Export', out_dir='data/yfcc_clear10', images='hardlink', testset_ratio=0.3)]
inputs = dict(records='work_dirs/yfcc_clear10/stages/metadata', images='work_dirs/yfcc_clear10/stages/download',
              buckets='work_dirs/yfcc_clear10/stages/time_buckets',
              selection='work_dirs/yfcc_clear10/stages/retrieval')
