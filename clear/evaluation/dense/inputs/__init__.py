"""What a head reads: samples of every split, and maps of an encoder, made or stored."""
