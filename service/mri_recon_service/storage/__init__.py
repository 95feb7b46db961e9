"""Keep jobs through a crash: their store, their files, and the processes that own them."""
