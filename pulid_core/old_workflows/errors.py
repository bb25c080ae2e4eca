"""What keeps a file from being converted."""


class OldWorkflowError(Exception):
    """The file is no workflow; the text is for the person in front of it."""
