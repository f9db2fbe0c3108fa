"""The mathematics: tensors and frames in and out. No files, no settings, no model ids."""
