"""The chosen face -> identity tokens: face parser, vision tower, IDFormer, fusion of several photos."""
