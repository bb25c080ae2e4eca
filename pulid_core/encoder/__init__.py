"""The chosen face -> identity tokens.

encode        the whole way
face_parser   BiSeNet: what of the crop stays, on a gray or white ground
vision_tower  EVA-CLIP, and how a crop gets to its size
idformer      ArcFace vector and vision features -> tokens
fusion        several photos of one person -> one set of tokens
"""
