# Linear classifier on stored ResNet-50 features, for the 11 classes of CLEAR-10 (Lin et al. 2021, arXiv:2201.06289).
model = dict(head=dict(type='LinearClsHead', num_classes=11, in_channels=2048))
