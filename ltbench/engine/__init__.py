"""A stage carried out: mmengine's Runner for `train`, plain loops on cached features for the others."""
