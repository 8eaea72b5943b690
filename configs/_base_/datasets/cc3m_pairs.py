# Conceptual Captions as its collector leaves it: data/cc3m/train_output.csv with the columns title and filepath, separated
# by tabs. 64 pairs on each of 8 processes.
train_dataloader = dict(batch_size=64, num_workers=8, dataset=dict(
    type='ImageTextPairs',
    images=dict(type='ImageTextTable', path='data/cc3m/train_output.csv', root='data/cc3m', separator='\t'),
    transform=[dict(type='RandomResizedCrop', size=224, scale=(0.9, 1.0), interpolation='bicubic'),
               dict(type='RGB'), dict(type='ToTensor'),
               dict(type='Normalize', mean=[0.48145466, 0.4578275, 0.40821073],
                    std=[0.26862954, 0.26130258, 0.27577711])]))
