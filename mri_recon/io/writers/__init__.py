"""Write reconstructions, one module for each format; a new one also needs an entry in `mri_recon.io.save.WRITERS`."""
