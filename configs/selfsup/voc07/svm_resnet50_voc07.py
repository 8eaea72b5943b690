# python tools/analysis_tools/voc07_classification.py configs/selfsup/voc07/svm_resnet50_voc07.py
# Support vector machines on frozen features, costs by 3-fold cross-validation on trainval, tested on test
# (Goyal et al. 2019, arXiv:1905.01235).
protocol = 'svm'
encoder = dict(type='TorchvisionEncoder', arch='resnet50', weights=dict(path='weights/moco_v2.pth'), preprocess=dict())
data_root = 'data/VOCdevkit/VOC2007'
# The list of the low-dimensional benchmarks: pooled features of 2048 numbers.
options = dict(costs=[0.01, 0.1, 1.0, 10.0, 100.0], folds=3)
