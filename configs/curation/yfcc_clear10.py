# python tools/curate.py configs/curation/yfcc_clear10.py
#
# From YFCC100M's metadata to CLEAR-10's folder tree: photos with a valid date, in CLEAR-10's periods, found by CLIP's
# RN101 under ten words; see docs/curation.md. Say who you are (stages.1.limits.contact); OpenAI's weights
# are fetched with stages.3.encoder.allow_network=True stages.4.text_encoder.allow_network=True.
_base_ = ['../_base_/encoders/clip_rn101.py']
stages = [
    dict(type='Metadata', root='data/yfcc100m', files='yfcc100m_dataset*'),
    # CLEAR-10's photos were filtered by their dates alone.
    dict(type='Download', limits=dict(contact='', connections=128, host_connections=32, host_rate=100.0)),
    dict(type='TimeBuckets', of='images', rule=dict(type='Periods', periods='configs/curation/clear_10_time.json')),
    dict(type='Features', encoder={{_base_.encoder}}, batch_size=128),
    dict(type='Retrieval', text_encoder=dict(type='OpenCLIPTextEncoder', arch='RN101-quickgelu', tag='openai'),
         prompts=['laptop', 'camera', 'bus', 'sweater', 'dress', 'racing', 'hockey', 'cosplay', 'baseball', 'soccer'],
         k=300, q=16000, conflict='argmax', background=True, negative_ratio=0.1),
    dict(type='Export', out_dir='data/yfcc_clear10', images='hardlink', testset_ratio=0.3),
]
num_workers = 4
