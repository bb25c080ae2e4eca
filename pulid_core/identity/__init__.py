"""One person as a value, and as a file.

identity  the value: tokens, ArcFace vectors, crops, and where they come from
file      .safetensors, and what makes a file unfit
card      a PNG around it that shows the face, and the lines below it
name      what a user types -> a place below one folder
"""
