# python tools/train.py configs/evaluation/caption_choice_demo.py
# Forty digits of the demo, each with its name and another one, by two tiny towers with random weights: chance, 0.5.
_base_ = ['../_base_/encoders/tiny_pair.py']
runner_type = 'ProbeRunner'
tasks = [dict(type='CaptionChoice', name='digits', data=dict(test=dict(
    type='SugarCrepe', root='data/demo', files='configs/evaluation/demo_choices.json')))]
