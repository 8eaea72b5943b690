# python tools/train.py configs/evaluation/vqa_demo.py
# Questions about twelve drawn scenes, and hypotheses about them. As shipped the towers have random weights; train some:
#   python tools/train.py configs/alignment/clip_tiny-vit_1xb64-cos-16e_scenes.py
#   --cfg-options encoders.tiny.weights=work_dirs/clip_tiny-vit_1xb64-cos-16e_scenes/epoch_16.pth
_base_ = ['../_base_/encoders/tiny_aligned.py']
runner_type = 'ProbeRunner'
_root = 'data/scenes'
tasks = [
    # Candidates by the first words of a question: colours to a question about a colour.
    dict(type='VQA', name='vqa', root=_root, by='first_words',
         data=dict(test=dict(type='VQAv2', data_root='data/scenes'))),
    dict(type='VisualEntailment', name='entailment', root=_root, hidden_dim=128, epochs=20, lrs=[1e-3, 1e-2], seeds=3,
         data=dict(test=dict(type='SNLIVE', data_root='data/scenes')))]
threads = 1
