# python tools/train.py configs/probing/heads_resnet18_demo-b1.py
_base_ = ['random_resnet18_demo-b1.py']
grid = dict(_delete_=True)

# The six settings that Kotar et al. 2021 (arXiv:2103.14005) compare on four tasks, here named one by one.
_settings = dict(adam_1e_4=dict(optimizer='adam', lr=1e-4), adam_1e_3=dict(optimizer='adam', lr=1e-3),
                 adam_1e_2=dict(optimizer='adam', lr=1e-2), sgd_1e_4=dict(optimizer='sgd', lr=1e-4),
                 sgd_1e_3=dict(optimizer='sgd', lr=1e-3), sgd_1e_2=dict(optimizer='sgd', lr=1e-2))
tasks = [
    dict(type='LinearProbe', name='linear', epochs=20, batch_size=64, optimizers=['adam'], lrs=[1e-3, 1e-2]),
    dict(type='MLPProbe', name='mlp', hidden=64, epochs=20, batch_size=64, optimizers=['adam'], lrs=[1e-3, 1e-2]),
    # One setting chosen on a tenth of the training images, tested once.
    dict(type='LinearProbe', name='linear_virb', protocol='virb', epochs=20, settings=_settings),
    # As the code of the paper does it: the setting that is best on the test images.
    dict(type='LinearProbe', name='linear_published', protocol='virb', legacy=True, epochs=20, settings=_settings),
    # The heads of 'linear', tested anew.
    dict(type='TrainedHead', name='linear_again', of='linear'),
]
