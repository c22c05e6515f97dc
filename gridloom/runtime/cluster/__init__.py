"""Work of a run on several processes and machines: where it runs, who does what, and the messages between them."""
