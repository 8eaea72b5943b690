"""Several learners of one kind side by side: one step of arithmetic for all, each with its own draws and memory."""
