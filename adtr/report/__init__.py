"""The report of a study: a page (HTML), a brief report (Markdown), and one for print (LaTeX)."""
