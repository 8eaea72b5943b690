# Learning to prompt (Wang et al. 2022, arXiv:2112.08654); set checkpoint to the weights of a ViT-B/16.
# The optimiser is that of Avalanche.
cl_strategy = dict(
    type='LearningToPrompt',
    vit=dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12), use_mask=False,
    train_mb_size=16, eval_mb_size=64, train_epochs=5,
    optimizer=dict(type='Adam', lr=0.03),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
