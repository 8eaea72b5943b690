# CLEAR-100 as features of a MoCo v2 ResNet-50 that was trained on bucket 0 (Lin et al. 2021, arXiv:2201.06289): the
# release of the CVPR 2022 challenge, buckets 0 ... 10, which holds features and lists.
scenario = dict(type='CLEAR', data_name='clear100_cvpr2022', data_root='data/clear100_cvpr2022',
                evaluation_protocol='iid', seed=0, feature_type='moco_b0')
