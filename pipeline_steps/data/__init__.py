"""From a culture's folder, links or data set to one table of pictures.

Steps in order: download, fetch_data_set, ingest, coco, data_report, data_card, withdraw_report.
Parts: entries (rows and files as they are handed in), folder, names, picture_files (bytes to pictures),
checks (what is odd about one of them), fetching; collection, the server through which people give pictures.
"""
