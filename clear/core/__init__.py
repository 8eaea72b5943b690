"""What every part of `clear` may use: errors, files, seeds, processes, configs, results."""
