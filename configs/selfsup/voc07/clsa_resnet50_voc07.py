# python tools/analysis_tools/voc07_classification.py configs/selfsup/voc07/clsa_resnet50_voc07.py
# One linear layer on augmented images of 300 pixels, chosen on val (Wang and Qi 2021, arXiv:2104.07713, their code).
protocol = 'clsa'
encoder = dict(type='TorchvisionEncoder', arch='resnet50', weights=dict(path='weights/moco_v2.pth'), preprocess=dict())
data_root = 'data/VOCdevkit/VOC2007'
# t_max: the learning rate reaches 0 every 24 epochs, as there.
options = dict(lr=0.05, momentum=0.9, weight_decay=0.0, batch_size=16, epochs=100, t_max=12, seed=2019)
