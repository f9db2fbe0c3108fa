"""What people hand in, decoded and cleaned in one place: text and tables."""
