"""Image-level data sets of ViRB (Kotar et al. 2021, arXiv:2103.14005) in the folders where its users have them.

The classes of every split are those of the training part: a reader of 'val' or 'test' reads the lists of 'train' too.
ImageNet, Pets, SUN397, EuroSAT and DTD are folders of classes, which `ImageFolder` reads.
"""
