"""Identity tokens -> FLUX: the cross attentions, folded; which blocks, when, how strongly, where.

attention     the cross attention that PuLID trained, and its two quick forms
folding       an identity folded into a cross attention
blocks        which blocks take the identity, and the sum of several people
options       what a user may change about it
schedule      when, over the steps; the ready-made curves
masks         where, by a user's mask: fitted to the picture, an area or a tile
regions       masks made for several people, without painting
spatial_mask  where, by the face's own response (SpatialID)
"""
