"""The map in the browser: what lies in folders that floemap made, as a page that needs no network."""
