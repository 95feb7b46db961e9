"""What survives a crash: the job store, the files of jobs, and who owns them."""
