"""Read k-space, with one module for each format. A new format needs a module here and a line in `table.TABLE`."""
