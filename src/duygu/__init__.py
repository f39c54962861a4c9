"""duygu."""
