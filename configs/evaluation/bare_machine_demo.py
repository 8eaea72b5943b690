# python tools/train.py configs/evaluation/bare_machine_demo.py
# The pair that needs no download on what the other demos draw: digits and their names, questions and hypotheses about
# scenes, the space of scenes and captions, ELEVATER's toy sets. First:
#   python tools/dataset_converters/make_demo_clear.py data/demo
#   python tools/dataset_converters/make_scenes.py data/scenes
#   python tools/dataset_converters/make_elevater_toy.py data/elevater_toy
_base_ = ['../_base_/encoders/bare_machine.py']
runner_type = 'ProbeRunner'
tasks = [dict(suite='evaluation/caption_choice_demo.py'), dict(suite='evaluation/vqa_demo.py'),
         dict(suite='evaluation/feature_analysis_demo.py'), dict(suite='evaluation/elevater_toy_demo.py')]
threads = 1
