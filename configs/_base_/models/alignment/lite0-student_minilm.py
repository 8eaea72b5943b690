_base_ = ['./lite0_minilm.py']

# The text tower as it is teaches; two layers on the frozen image tower learn.
model = dict(joint_dim=None, text_head=None,
             image_head=dict(_delete_=True, type='DINOHead', num_layers=2, hidden_channels=512))
