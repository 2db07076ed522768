"""Parameters: what each admits, and studies made of them."""
