# DINO (Caron et al. 2021, arXiv:2104.14294) with a convolutional network: BatchNorm in the head.
model = dict(
    type='DINO', backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='DINOHead', in_channels=2048, out_channels=65536, norm=True),
    momentum=0.996, student_temp=0.1, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=30,
    data_preprocessor=dict(type='ViewPreprocessor'))
