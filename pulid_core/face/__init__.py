"""The photo: which face is meant, where it lies, whether it is good enough, whom it resembles.

analyser     InsightFace's two networks: finds faces, and gives each its ArcFace vector
devices      where ONNX Runtime can run them
detection    looks for faces in photos of any size and turn
alignment    key points -> the upright crop
choice       which face is the person, by order and number
quality      why a face may be too poor
portrait     all photos -> the chosen face of each
report       what happened to each photo, as text and as a picture
boxes        boxes with labels on a picture
similarity   how alike two faces are, and when they are two people's
gate         which of many pictures look like the person
second_pass  a square around a finished face, to be painted anew
"""
