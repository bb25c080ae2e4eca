"""Looking for the best settings, and sheets that compare pictures.

tuning         every weight with every start
strength       the lowest strength that is alike enough
curve          likeness over strength, as a picture
contact_sheet  pictures with captions and scores on one sheet
large_sheet    the same of hundreds of files, in lines of at most 24
"""
