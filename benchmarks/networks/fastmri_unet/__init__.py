"""Our U-Net beside fastMRI's: quality after equal training, and speed."""
