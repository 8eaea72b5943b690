# Zero-shot VQA and visual entailment; settings are ours unless a source is named.
tasks = [
    # TAP-C (Song et al. 2022, arXiv:2203.07190) without its T5; with one: templates='t5', candidates='t5',
    # t5='weights/flan-t5-large'.
    dict(type='VQA', name='vqa', root='data/vqa_v2', k=100, prompt='a photo. {}.',
         data=dict(test=dict(type='VQAv2', data_root='data/vqa_v2', split='val'))),
    dict(type='VisualEntailment', name='entailment', root='data/snli_ve', hidden_dim=512, lrs=[1e-4, 3e-4, 1e-3],
         epochs=10, seeds=3, data=dict(test=dict(type='SNLIVE', data_root='data/snli_ve', split='test')))]
