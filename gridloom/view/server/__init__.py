"""Web server of the viewer: routes, security headers, host and token checks."""
