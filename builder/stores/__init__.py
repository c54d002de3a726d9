"""Repositories elsewhere: s3://, gs://, az://, file://, by fsspec and its drivers."""
