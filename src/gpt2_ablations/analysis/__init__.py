"""What a run supports: comparison with the published figures, and answers to the document's questions."""
