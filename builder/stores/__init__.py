"""Repositories elsewhere: s3://, gs://, az://, file://, by fsspec and its drivers. See docs/stores.md.

far.py        what is asked of a far side, and what becomes of its errors; folder.py and bucket.py answer
record.py     the lock that lies there: of each model its versions, which one is current, and what that calls
here.py       the same of a repository on this machine
push.py       content, configs in publish's order, the lock last; retained.py says what goes afterwards
pull.py       the lock, content into a folder beside the repository; repository/arrivals.py puts it in
signing.py    Ed25519 over what the record says
"""
