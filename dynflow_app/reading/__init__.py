"""Reading: what pages, the API and people ask of the ledger. Nothing here changes a row."""
