"""Read k-space, one file a format. A new format is a file here and a line in `table.TABLE`."""
