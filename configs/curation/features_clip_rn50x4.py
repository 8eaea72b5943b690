# python tools/curate.py configs/curation/features_clip_rn50x4.py
#
# Half-precision features of a curation's images in every bucket by CLIP's RN50x4. Add
# --cfg-options stages.0.encoder.allow_network=True to have OpenAI's weights fetched.
_base_ = ['../_base_/encoders/clip_rn50x4.py']
stages = [dict(type='Features', encoder={{_base_.encoder}}, batch_size=128)]
inputs = dict(images='work_dirs/yfcc/stages/download', buckets='work_dirs/yfcc/stages/time_buckets')
