"""What a run found, drawn and written up: figures, the architecture as a picture, a page to send to a colleague."""
