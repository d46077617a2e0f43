"""Tableau Server and Tableau Cloud: signing in, projects, data sources, uploads and jobs, through their REST API.

`tableauserverclient` speaks the API; what is here is how uploads are cut and begun anew, what may be sent again and
what may not, and what is said when the server refuses. Needs the extra `tableau`, and is imported late.
"""
