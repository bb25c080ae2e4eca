"""Identity tokens -> FLUX: the cross attentions, folded; which blocks, when, how strongly, where."""
