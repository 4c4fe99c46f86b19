"""Settings of a tiny detector."""

TINY = {
    "backbone_weights": "random",
    "backbone_architecture": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
    "train_backbone": "full",
    "image_size": 56,
    **{"num_queries": 8, "decoder_layers": 1, "hidden_dim": 32, "num_heads": 4, "feedforward_dim": 64},
    **{"feature_scales": [1.0], "box_head_dim": 32, "batch_size": 2, "num_workers": 0, "logger": []},
}
