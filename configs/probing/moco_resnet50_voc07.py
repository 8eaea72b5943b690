# python tools/train.py configs/probing/moco_resnet50_voc07.py
runner_type = 'ProbeRunner'

# VOC 2007 classification by both protocols, on any encoder; their numbers do not compare. The archives of trainval and
# test unpack to data/VOCdevkit/VOC2007.
encoders = dict(
    moco_v2=dict(type='TorchvisionEncoder', arch='resnet50', weights=dict(path='weights/moco_v2.pth'),
                 preprocess=dict(), info=dict(method='moco_v2', pretrain_dataset='imagenet', epochs=200)))
# Lists and labels are read from data_root; one folder of images serves all of them.
_images = dict(type='ImageFolder', root='data/VOCdevkit/VOC2007/JPEGImages')
data = dict(train=_images, test=_images)
tasks = [
    # Costs by 3-fold cross-validation on trainval (Goyal et al. 2019, arXiv:1905.01235), the list of the
    # low-dimensional benchmarks: pooled features of 2048 numbers.
    dict(type='VOC07SVM', name='svm', data_root='data/VOCdevkit/VOC2007',
         costs=[0.01, 0.1, 1.0, 10.0, 100.0], folds=3),
    # Images of 300 pixels, the epoch chosen on val (Wang and Qi 2021, arXiv:2104.07713, their code); t_max: the
    # learning rate reaches 0 every 24 epochs, as there.
    dict(type='VOC07Linear', name='linear', data_root='data/VOCdevkit/VOC2007', lr=0.05, momentum=0.9,
         weight_decay=0.0, batch_size=16, epochs=100, t_max=12, seed=2019)]
