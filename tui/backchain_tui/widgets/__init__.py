"""The widgets around the diagram: cluster map, details, plan, job, and the bars above and below."""
