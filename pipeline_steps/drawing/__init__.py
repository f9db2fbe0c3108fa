"""What pages and figures share: charts."""
