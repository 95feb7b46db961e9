"""Write reconstructions, one file a format. A new format is a file here and an entry in `mri_recon.io.save.WRITERS`."""
