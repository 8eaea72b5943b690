"""Time buckets: the rules that cut a stream, and the stage that says of every record in which bucket it is."""
