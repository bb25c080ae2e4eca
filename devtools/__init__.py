"""What developers run through `dev.py`: set-up, test steps, demos, stand-ins. Not shipped."""
