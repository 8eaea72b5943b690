_base_ = ['./lite0_minilm.py']

# Both heads end in scores of 256 directions; that of the text, the teacher, stands still.
_head = dict(_delete_=True, type='DINOHead', num_layers=2, hidden_channels=512, out_channels=256)
model = dict(joint_dim=256, image_head=_head, text_head=_head)
