# MNIST two classes at a time, in ascending order (Zenke et al. 2017, arXiv:1703.04200). Images are resized for LeNet-5.
# Missing data are an error; scenario.download=True fetches them into data/mnist.
_transform = [dict(type='Resize', size=[32, 32]), dict(type='Normalize', mean=[0.1307], std=[0.3081])]
scenario = dict(
    type='SplitMNIST', n_experiences=5, shuffle=False, data_root='data/mnist', cache='ram',
    train_transform=_transform, eval_transform=_transform)
