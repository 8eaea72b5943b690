# CLEAR-10 as features of a MoCo v2 ResNet-50 that was trained on bucket 0 (Lin et al. 2021, arXiv:2201.06289).
scenario = dict(type='CLEAR', data_name='clear10', data_root='data/clear10', evaluation_protocol='iid', seed=0,
                feature_type='moco_b0')
