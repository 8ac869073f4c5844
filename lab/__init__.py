"""The laboratory: experiments, their measures, statistics, tables and figures."""
