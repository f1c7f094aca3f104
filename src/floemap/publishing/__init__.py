"""From corrected drafts to published charts: checks, products, what an analyst changed, follow-up of many charts."""
