# Cosine classifier (Gidaris and Komodakis 2018, arXiv:1804.09458) on stored ResNet-50 features, fixed temperature.
model = dict(head=dict(type='CosineDistanceHead', num_classes=11, in_channels=2048, temperature=2.0))
